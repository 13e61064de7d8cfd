"""From what the stores return to what the API sends, and back."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from api.context import Context
from api.schemas.bundles import BundleObject
from api.schemas.definitions import Action, ActionCreate, Trigger, TriggerCreate
from api.schemas.events import Event, EventSummary
from latchflow.store import bundle_objects
from latchflow.store.definition_changes import Draft
from latchflow.store.definitions import Definition


def trigger_of(definition: Definition) -> Trigger:
    """A trigger definition as people may read it."""
    return Trigger.model_validate({**_fields(definition), **definition.options})


def action_of(definition: Definition) -> Action:
    """An action definition as people may read it."""
    return Action.model_validate({**_fields(definition), **definition.options})


def draft_of(body: TriggerCreate | ActionCreate) -> Draft:
    """The definition a request asks for."""
    options = (
        plain(
            {
                "retry_policy": body.retry_policy,
                "timeout_seconds": body.timeout_seconds,
                "on_unknown": body.on_unknown,
            }
        )
        if isinstance(body, ActionCreate)
        else {"overlap": body.overlap, "max_running_events": body.max_running_events}
    )
    return Draft(
        name=body.name,
        config=body.config,
        is_enabled=body.is_enabled,
        options=options,
        capability_id=body.capability_id,
        plugin=body.capability.plugin if body.capability else "",
        capability_key=body.capability.key if body.capability else "",
    )


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a request with nested models as dicts, by Python names."""
    return {name: value.model_dump() if hasattr(value, "model_dump") else value for name, value in values.items()}


def event_summary_of(row: Mapping[str, Any], context: Context) -> EventSummary:
    """An event in a list."""
    return EventSummary.model_validate({**row, "temporal_url": _temporal_url(row["workflow_id"], context)})


def event_of(row: Mapping[str, Any], context: Context) -> Event:
    """An event with everything."""
    return Event.model_validate({**row, "temporal_url": _temporal_url(row["workflow_id"], context)})


def object_of(entry: bundle_objects.BundleObject) -> BundleObject:
    """An object of a bundle; where its content is kept is nobody's business."""
    return BundleObject.model_validate({**vars(entry), "sha256": entry.sha256.hex()})


def _fields(definition: Definition) -> dict[str, Any]:
    return {
        "id": definition.id,
        "name": definition.name,
        "capability_id": definition.capability_id,
        "capability": {"plugin": definition.plugin, "key": definition.capability_key},
        "config": definition.masked_config,
        "is_enabled": definition.is_enabled,
        "invalid_config": definition.invalid_config,
        "version": definition.version,
        "created_at": definition.created_at,
        "updated_at": definition.updated_at,
    }


def _temporal_url(workflow_id: str | None, context: Context) -> str | None:
    address = context.settings.temporal_ui_url.rstrip("/")
    if not address or workflow_id is None:
        return None
    namespace = quote(context.temporal.namespace, safe="")
    return f"{address}/namespaces/{namespace}/workflows/{quote(workflow_id, safe=':')}"

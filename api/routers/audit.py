"""``/admin/audit``."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query

from api.auth import Caller, requires
from api.context import ContextDep
from api.paging import Cursor, Limit, decode_cursor, encode_cursor
from api.routing import admin_router
from api.schemas.audit import AuditEntry
from api.schemas.conventions import Listing, Time
from latchflow.model import AuditKind, Phase
from latchflow.store import audit_reading

router = admin_router("/admin/audit", "audit")

Reader = Annotated[Caller, requires("audit:read")]

_LISTING = "audit"


def audit_filters(
    kind: AuditKind | None = None,
    phase: Phase | None = None,
    plugin_name: Annotated[str | None, Query(alias="pluginName")] = None,
    trigger_definition_id: Annotated[UUID | None, Query(alias="triggerDefinitionId")] = None,
    trigger_event_id: Annotated[UUID | None, Query(alias="triggerEventId")] = None,
    action_definition_id: Annotated[UUID | None, Query(alias="actionDefinitionId")] = None,
    invocation_id: Annotated[UUID | None, Query(alias="invocationId")] = None,
    actor: str | None = None,
    begin: Annotated[Time | None, Query(alias="from", description="At or after this time.")] = None,
    end: Annotated[Time | None, Query(alias="to", description="Before this time.")] = None,
) -> dict[str, str | UUID | datetime | None]:
    """What a reader asks for."""
    return {
        "kind": kind,
        "phase": phase,
        "plugin_name": plugin_name,
        "trigger_definition_id": trigger_definition_id,
        "trigger_event_id": trigger_event_id,
        "action_definition_id": action_definition_id,
        "invocation_id": invocation_id,
        "actor": actor,
        "from": begin,
        "to": end,
    }


Filters = Annotated[dict[str, str | UUID | datetime | None], Depends(audit_filters)]


@router.get("", summary="List audit entries", operation_id="listAudit")
async def list_audit(
    context: ContextDep, _: Reader, filters: Filters, limit: Limit = 50, cursor: Cursor = None
) -> Listing[AuditEntry]:
    """By ascending `seq`. Going on from a cursor never misses an entry."""
    after = decode_cursor(_LISTING, cursor)
    async with context.database.connection() as connection:
        page = await audit_reading.list_entries(connection, filters, limit=limit, after=after[0] if after else None)
    items = [AuditEntry.model_validate(row) for row in page.items]
    return Listing(items=items, next_cursor=encode_cursor(_LISTING, page.next_key))

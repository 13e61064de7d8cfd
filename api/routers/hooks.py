"""``/hooks/{triggerId}``: where senders deliver. Answered 202 only when the event is durable."""

import hashlib
import time
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse

from api.context import Context, ContextDep
from api.errors import problem
from api.routing import PROBLEMS
from api.schemas.hooks import Delivery
from latchflow.errors import ConflictError, NotFoundError, UnavailableError
from latchflow.model import AuditKind, Phase
from latchflow.runtime.invoking.configs import ConfigError
from latchflow.runtime.invoking.inbound import InboundError, read_request
from latchflow.runtime.lifecycle.migrating import fitting_config
from latchflow.runtime.lifecycle.registry import LoadedInbound
from latchflow.sdk import Emit, InboundRequest, Reject
from latchflow.store import places
from latchflow.store.audit import AuditEntry
from latchflow.store.inbound import InboundTrigger, get_inbound_trigger
from latchflow.temporal.dispatch import Accepted, Firing

METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]

log = structlog.get_logger(__name__)
router = APIRouter(prefix="/hooks", tags=["hooks"], responses=PROBLEMS)


@router.api_route(
    "/{triggerId}",
    methods=["POST"],
    status_code=202,
    response_model=Delivery,
    summary="Deliver to a webhook",
    operation_id="deliver",
)
@router.api_route("/{triggerId}", methods=["GET", "PUT", "PATCH", "DELETE"], include_in_schema=False)
@router.api_route("/{triggerId}/{rest:path}", methods=METHODS, include_in_schema=False)
async def deliver(triggerId: str, request: Request, context: ContextDep) -> JSONResponse:  # noqa: N803 - as documented
    """Verified by the trigger itself. The answer names the event, also when an earlier delivery opened it."""
    trigger = await _find(context, triggerId)
    body = await request.body()
    loaded = context.plugins.live.snapshot.inbound_triggers.get((trigger.plugin, trigger.capability_key))
    if loaded is None:
        raise UnavailableError(f"The plugin {trigger.plugin} is not loaded here. An admin must enable it.")
    with loaded.plugin.uses:
        answer = await _read(context, trigger, loaded, request, body)
    if isinstance(answer, Reject):
        await _audit(context, trigger, Phase.REJECTED, {"status": answer.status, "reason": answer.reason[:500]})
        return problem(answer.status, answer.reason, code="rejected")
    accepted = [await context.dispatcher.dispatch(_firing(trigger, emit, body)) for emit in answer]
    return JSONResponse(_delivery(accepted), status_code=202)


async def _find(context: Context, trigger_id: str) -> InboundTrigger:
    trigger = None
    try:
        identifier = UUID(trigger_id)
    except ValueError:
        identifier = None
    if identifier is not None:
        async with context.database.connection() as connection:
            trigger = await get_inbound_trigger(connection, identifier)
    if trigger is None:
        raise NotFoundError("There is no webhook at this address.")
    if not trigger.is_enabled:
        raise ConflictError("This webhook is disabled.")
    if trigger.plugin_status == "DISABLED":
        raise ConflictError("An admin disabled the plugin of this webhook.")
    return trigger


async def _read(context: Context, trigger: InboundTrigger, loaded: LoadedInbound, request: Request, body: bytes) -> Any:
    place = places.trigger_config(trigger.id, trigger.plugin)
    saved = context.keyring.open_json(trigger.config_sealed, place)
    stats, started = loaded.plugin.stats.of("TRIGGER", loaded.key), time.monotonic()
    details = InboundRequest(
        method=request.method,
        path="/" + request.path_params.get("rest", ""),
        query=dict(request.query_params),
        headers=_headers(request),
        body=body,
        received_at=datetime.now(UTC),
    )
    try:
        config = await fitting_config(loaded, saved, from_version=trigger.plugin_version)
        answer = await read_request(loaded, config, details)
        phase = Phase.REJECTED if isinstance(answer, Reject) else Phase.SUCCEEDED
        stats.record(phase.value, time.monotonic() - started)
        return answer
    except (InboundError, ConfigError) as error:
        fault = {"type": type(error).__name__, "message": str(error)}
        stats.record(Phase.FAILED.value, time.monotonic() - started, fault)
        await _audit(context, trigger, Phase.FAILED, {"reason": str(error)[:500]})
        log.error(
            "a trigger could not read a request", trigger_id=str(trigger.id), plugin=trigger.plugin, reason=str(error)
        )
        message = "The webhook's plugin failed to read this request. Nothing was created; try again later."
        raise UnavailableError(message, retry_after_seconds=30) from None


def _headers(request: Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _firing(trigger: InboundTrigger, emit: Emit, body: bytes) -> Firing:
    return Firing(
        trigger_id=trigger.id,
        context=emit.context,
        metadata=emit.metadata,
        key=emit.key,
        body_hash=None if emit.key is None or emit.is_key_signed else hashlib.sha256(body).digest(),
    )


def _delivery(accepted: list[Accepted]) -> dict[str, Any]:
    """The event of the first emit; a request that fired nothing has none."""
    first = accepted[0] if accepted else None
    return {
        "eventId": str(first.event_id) if first else None,
        "duplicate": first.is_duplicate if first else False,
    }


async def _audit(context: Context, trigger: InboundTrigger, phase: Phase, detail: dict[str, Any]) -> None:
    entry = AuditEntry(
        kind=AuditKind.TRIGGER,
        phase=phase,
        plugin_name=trigger.plugin,
        capability_key=trigger.capability_key,
        trigger_definition_id=trigger.id,
        detail=detail,
    )
    await context.rejections.record(entry)

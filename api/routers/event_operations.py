"""What is done with an event: cancel it or a run of it, run it again."""

from typing import Annotated
from uuid import UUID

from fastapi import Header, Path

from api.auth import Caller, requires
from api.context import Context, ContextDep
from api.errors import ForbiddenError
from api.routing import admin_router
from api.schemas.operations import Asked, Opened, RerunBody
from latchflow.errors import InvalidInputError, NotFoundError
from latchflow.store import cancellations, events

router = admin_router("/admin/events", "events")

Operator = Annotated[Caller, requires("events:operate")]
EventId = Annotated[UUID, Path(alias="eventId")]
RunId = Annotated[UUID, Path(alias="runId")]
Key = Annotated[
    str | None,
    Header(alias="Idempotency-Key", min_length=1, max_length=255, description="The same one: the same new event."),
]


@router.post("/{eventId}/cancel", summary="Cancel an event", operation_id="cancelEvent", status_code=202)
async def cancel_event(context: ContextDep, caller: Operator, event_id: EventId) -> Asked:
    """Its actions are told within seconds and get time to clean up; 409 when it is closed."""
    await _check_whole(context, caller, event_id)
    await context.canceller.cancel_event(event_id, actor=caller.name)
    return Asked(event_id=event_id)


@router.post("/{eventId}/runs/{runId}/cancel", summary="Cancel a run", operation_id="cancelRun", status_code=202)
async def cancel_run(context: ContextDep, caller: Operator, event_id: EventId, run_id: RunId) -> Asked:
    """The event's other runs go on; 409 when it is closed."""
    async with context.database.connection() as connection:
        if not await cancellations.is_run_visible(connection, event_id, run_id, limits=caller.limits):
            raise NotFoundError(f"The event {event_id} has no run {run_id}.")
    await context.canceller.cancel_run(event_id, run_id, actor=caller.name)
    return Asked(event_id=event_id)


@router.post("/{eventId}/rerun", summary="Run an event again", operation_id="rerunEvent", status_code=202)
async def rerun_event(
    context: ContextDep, caller: Operator, event_id: EventId, body: RerunBody | None = None, key: Key = None
) -> Opened:
    """As a new event with the old one's context; what is kept of it is not executed again. 409 while it is open."""
    await _check_whole(context, caller, event_id)
    if key is not None and not key.isprintable():
        raise InvalidInputError("The Idempotency-Key holds control characters. Use plain text.")
    wanted = (body or RerunBody()).wanted()
    key = None if key is None else f"key:{key}"
    accepted = await context.rerunner.rerun(event_id, wanted, actor=caller.name, key=key, limits=caller.limits)
    return Opened(event_id=accepted.event_id)


async def _check_whole(context: Context, caller: Caller, event_id: UUID) -> None:
    async with context.database.connection() as connection:
        found = await events.status_of(connection, event_id, limits=caller.limits)
    if found is None:
        raise NotFoundError(f"There is no event {event_id}.")
    _, is_whole = found
    if not is_whole:
        raise ForbiddenError("The event has runs of pipelines that this user may not operate on.")

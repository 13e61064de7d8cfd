"""``/admin/triggers``."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query, Response

from api.auth import Caller, requires
from api.context import ContextDep
from api.documents import draft_of, event_summary_of, trigger_of
from api.etags import IfMatch, set_etag
from api.paging import Cursor, Limit, decode_time_cursor, encode_cursor
from api.routers.events import OfStatus
from api.routing import admin_router
from api.schemas.conventions import Listing
from api.schemas.definitions import Trigger, TriggerCreate, TriggerPatch
from api.schemas.events import EventSummary
from latchflow.store.definition_changes import change_definition, create_definition, delete_definition
from latchflow.store.definitions import TRIGGERS, get_definition, list_definitions
from latchflow.store.event_documents import list_events

router = admin_router("/admin/triggers", "triggers")

Reader = Annotated[Caller, requires("definitions:read")]
Writer = Annotated[Caller, requires("definitions:write")]
EventReader = Annotated[Caller, requires("events:read")]
TriggerId = Annotated[UUID, Path(alias="triggerId")]

_LISTING = "triggers"


@router.get("", summary="List trigger definitions", operation_id="listTriggers")
async def list_triggers(context: ContextDep, _: Reader, limit: Limit = 50, cursor: Cursor = None) -> Listing[Trigger]:
    """In the order they were created."""
    after = decode_time_cursor(_LISTING, cursor)
    async with context.database.connection() as connection:
        page = await list_definitions(connection, context.keyring, TRIGGERS, limit=limit, after=after)
    return Listing(items=list(map(trigger_of, page.items)), next_cursor=encode_cursor(_LISTING, page.next_key))


@router.post("", summary="Create a trigger definition", operation_id="createTrigger", status_code=201)
async def create_trigger(context: ContextDep, caller: Writer, body: TriggerCreate, response: Response) -> Trigger:
    """The config must satisfy the schema of the capability."""
    async with context.database.transaction() as connection:
        trigger = await create_definition(connection, context.keyring, TRIGGERS, draft_of(body), actor=caller.name)
    set_etag(response, trigger.version)
    return trigger_of(trigger)


@router.get("/{triggerId}", summary="Read a trigger definition", operation_id="getTrigger")
async def get_trigger(context: ContextDep, _: Reader, trigger_id: TriggerId, response: Response) -> Trigger:
    """Secrets show as ``********``."""
    async with context.database.connection() as connection:
        trigger = await get_definition(connection, context.keyring, TRIGGERS, trigger_id)
    set_etag(response, trigger.version)
    return trigger_of(trigger)


@router.patch("/{triggerId}", summary="Change a trigger definition", operation_id="changeTrigger")
async def change_trigger(
    context: ContextDep,
    caller: Writer,
    trigger_id: TriggerId,
    expected: IfMatch,
    body: TriggerPatch,
    response: Response,
) -> Trigger:
    """Only the fields sent change; a config replaces the whole."""
    async with context.database.transaction() as connection:
        trigger = await change_definition(
            connection, context.keyring, TRIGGERS, trigger_id, body.given(), expected=expected, actor=caller.name
        )
    set_etag(response, trigger.version)
    return trigger_of(trigger)


@router.delete("/{triggerId}", summary="Delete a trigger definition", operation_id="deleteTrigger", status_code=204)
async def delete_trigger(
    context: ContextDep,
    caller: Writer,
    trigger_id: TriggerId,
    expected: IfMatch,
    cascade: Annotated[bool, Query(description="Detach it from its pipelines first.")] = False,
) -> None:
    """Refused while pipelines use it, unless it cascades."""
    async with context.database.transaction() as connection:
        await delete_definition(
            connection,
            context.keyring,
            TRIGGERS,
            trigger_id,
            expected=expected,
            cascade=cascade,
            actor=caller.name,
        )


@router.get("/{triggerId}/events", summary="List the events of a trigger", operation_id="listTriggerEvents")
async def list_trigger_events(
    context: ContextDep,
    caller: EventReader,
    trigger_id: TriggerId,
    status: OfStatus = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Listing[EventSummary]:
    """Newest first."""
    listing = f"triggers/{trigger_id}/events"
    after = decode_time_cursor(listing, cursor)
    async with context.database.connection() as connection:
        await get_definition(connection, context.keyring, TRIGGERS, trigger_id)
        page = await list_events(
            connection, trigger_id=trigger_id, status=status, limit=limit, after=after, limits=caller.limits
        )
    items = [event_summary_of(row, context) for row in page.items]
    return Listing(items=items, next_cursor=encode_cursor(listing, page.next_key))

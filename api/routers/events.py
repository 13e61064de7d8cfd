"""``/admin/events``."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query

from api.auth import Caller, requires
from api.context import ContextDep
from api.documents import event_of, event_summary_of
from api.paging import Cursor, Limit, decode_time_cursor, encode_cursor
from api.routing import admin_router
from api.schemas.conventions import Listing
from api.schemas.events import Event, EventSummary
from latchflow.model import EventStatus
from latchflow.store import event_documents

router = admin_router("/admin/events", "events")

Reader = Annotated[Caller, requires("events:read")]
EventId = Annotated[UUID, Path(alias="eventId")]
OfStatus = Annotated[EventStatus | None, Query(description="Only events of this status.")]

_LISTING = "events"


@router.get("", summary="List events", operation_id="listEvents")
async def list_events(
    context: ContextDep,
    caller: Reader,
    trigger_id: Annotated[UUID | None, Query(alias="triggerId")] = None,
    status: OfStatus = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Listing[EventSummary]:
    """Newest first, without contexts and runs."""
    after = decode_time_cursor(_LISTING, cursor)
    async with context.database.connection() as connection:
        page = await event_documents.list_events(
            connection, trigger_id=trigger_id, status=status, limit=limit, after=after, limits=caller.limits
        )
    items = [event_summary_of(row, context) for row in page.items]
    return Listing(items=items, next_cursor=encode_cursor(_LISTING, page.next_key))


@router.get("/{eventId}", summary="Read an event", operation_id="getEvent")
async def get_event(context: ContextDep, caller: Reader, event_id: EventId) -> Event:
    """With its context, its runs, their invocations and every attempt."""
    async with context.database.connection() as connection:
        event = await event_documents.get_event(connection, context.keyring, event_id, limits=caller.limits)
    return event_of(event, context)

"""``/admin/events/{eventId}/history``."""

import base64
import binascii
from typing import Annotated
from uuid import UUID

from fastapi import Path

from api.auth import Caller, requires
from api.context import ContextDep
from api.errors import ForbiddenError
from api.paging import Cursor, Limit, decode_cursor, encode_cursor
from api.routing import admin_router
from api.schemas.conventions import Listing
from api.schemas.history import HistoryEntry
from latchflow.errors import MalformedError, NotFoundError
from latchflow.model import EventStatus
from latchflow.names import event_workflow_id
from latchflow.store import events
from latchflow.store.known_secrets import masker_of_events
from latchflow.temporal.history import read_history

router = admin_router("/admin/events", "events")

Reader = Annotated[Caller, requires("events:read")]


@router.get("/{eventId}/history", summary="Read what Temporal recorded", operation_id="getEventHistory")
async def get_event_history(
    context: ContextDep,
    caller: Reader,
    event_id: Annotated[UUID, Path(alias="eventId")],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Listing[HistoryEntry]:
    """Temporal's own history of the event's workflow, oldest first, payloads decoded, secrets masked."""
    listing = f"events/{event_id}/history"
    async with context.database.connection() as connection:
        found = await events.status_of(connection, event_id, limits=caller.limits)
        masker = await masker_of_events(connection, context.keyring, [event_id])
    if found is None:
        raise NotFoundError(f"There is no event {event_id}.")
    status, is_whole = found
    if not is_whole:
        raise ForbiddenError("The history tells of runs of pipelines that this user may not see.")
    if status in (EventStatus.IGNORED, EventStatus.PENDING):
        return Listing(items=[], next_cursor=None)  # it owed nothing, or Temporal does not have it yet
    page = await read_history(
        context.temporal, event_workflow_id(event_id), limit=limit, page_token=_page_token(listing, cursor)
    )
    items = [
        HistoryEntry(id=item.event_id, time=item.time, type=item.type, attributes=masker.value(dict(item.attributes)))
        for item in page.items
    ]
    token = page.next_page_token
    key = base64.b64encode(token).decode() if token else None
    return Listing(items=items, next_cursor=encode_cursor(listing, key))


def _page_token(listing: str, cursor: str | None) -> bytes | None:
    key = decode_cursor(listing, cursor)
    try:
        return base64.b64decode(key[0], validate=True) if key else None
    except (binascii.Error, TypeError, ValueError):
        raise MalformedError("This cursor is none that was handed out.") from None

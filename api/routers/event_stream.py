"""``/admin/events/{id}/stream``: the document of an event, again whenever it changes."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import Header, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event
from starlette.types import Receive, Scope, Send

from api.auth import Caller, Requires, authenticate, requires
from api.context import Context, ContextDep
from api.documents import event_of
from api.errors import ForbiddenError, UnauthorizedError
from api.event_streams import Watch
from api.routers.events import EventId
from api.routing import admin_router
from latchflow.errors import NotFoundError, SealError, UnavailableError
from latchflow.store import event_documents

router = admin_router("/admin/events", "events")

KEEP_ALIVE_SECONDS = 15.0
_KEEP_ALIVE = format_sse_event(comment="keep-alive")
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
_SCOPE = "events:read"
_AGAIN_SECONDS = 1.0


class _Document:
    """An event's document as it is sent.

    Attributes:
        version: The same for the same document, whichever process made it.
    """

    def __init__(self, body: str, *, is_closed: bool) -> None:
        self.version = hashlib.sha256(body.encode()).hexdigest()[:32]
        self.message = format_sse_event(data_str=body, id=self.version)
        self.is_closed = is_closed


class _EventStream(StreamingResponse):
    """Holds a place among the streams while it is sent; without one left nothing is sent but the refusal."""

    def __init__(self, request: Request, context: Context, event_id: UUID, seen: str | None) -> None:
        super().__init__((), headers=_HEADERS, media_type="text/event-stream")
        self._request = request
        self._context = context
        self._event_id = event_id
        self._seen = seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the event is closed, the client goes, or the caller may not see it any more."""
        async with self._context.streams.watch(self._event_id) as watch:
            self.body_iterator = self._messages(watch)
            await super().__call__(scope, receive, send)

    async def _messages(self, watch: Watch) -> AsyncIterator[bytes]:
        seen = self._seen
        while not watch.is_over:
            started = time.monotonic()
            try:
                document = await self._read()
            except (UnauthorizedError, ForbiddenError, NotFoundError, SealError):
                return
            except UnavailableError:
                yield _KEEP_ALIVE
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            if document.version != seen:
                seen = document.version
                yield document.message
            if document.is_closed:
                return
            # A document of many thousand steps changes all the time; reading it must not be all that is done.
            await asyncio.sleep(2 * (time.monotonic() - started))
            while not await watch.changed(KEEP_ALIVE_SECONDS):
                yield _KEEP_ALIVE
                if not await self._is_still_allowed():
                    return

    async def _read(self) -> _Document:
        """Read it for the caller as the token is now: one that was revoked sees no more."""
        await authenticate(self._request.scope)
        caller = await Requires(_SCOPE).check(self._request)
        return await _document(self._context, self._event_id, caller)

    async def _is_still_allowed(self) -> bool:
        try:
            await authenticate(self._request.scope)
            await Requires(_SCOPE).check(self._request)
        except (UnauthorizedError, ForbiddenError):
            return False
        except UnavailableError:
            return True
        return True


@router.get(
    "/{eventId}/stream",
    summary="Follow an event",
    operation_id="streamEvent",
    response_class=Response,
    responses={
        200: {"description": "The document, again whenever it changes", "content": {"text/event-stream": {}}},
        204: {"description": "The event is closed, and its last document was seen"},
    },
)
async def stream_event(
    request: Request,
    context: ContextDep,
    caller: Annotated[Caller, requires(_SCOPE)],
    event_id: EventId,
    last_event_id: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
) -> Response:
    """Server-sent events: each `data` is the whole document, each `id` its version. Ends when the event is closed.

    With `Last-Event-ID` what was seen is not sent again.
    """
    document = await _document(context, event_id, caller)
    if document.is_closed and document.version == last_event_id:
        return Response(status_code=204)  # tells an EventSource not to come again
    return _EventStream(request, context, event_id, last_event_id)


async def _document(context: Context, event_id: UUID, caller: Caller) -> _Document:
    async with context.database.connection() as connection:
        row = await event_documents.get_event(connection, context.keyring, event_id, limits=caller.limits)
    event = event_of(row, context)
    return _Document(event.model_dump_json(by_alias=True), is_closed=event.closed_at is not None)

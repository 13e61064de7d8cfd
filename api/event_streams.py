"""Streams of an event's document: who listens, and what wakes them."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import structlog

from latchflow.errors import UnavailableError
from latchflow.store import event_versions
from latchflow.store.database import Database

MOST_STREAMS = 100
"""Of one process: each costs a connection to a client, and a look at its event three times a second."""

_LOOK_SECONDS = 0.3

log = structlog.get_logger(__name__)


class Watch:
    """One listener's view of an event."""

    def __init__(self, event_id: UUID) -> None:
        self.event_id = event_id
        self.is_over = False
        self._mark: str | None = None
        self._changed = asyncio.Event()

    def see(self, mark: str | None) -> None:
        """Wake the listener when the event has another mark than before."""
        if mark != self._mark:
            self._mark = mark
            self._changed.set()

    def end(self) -> None:
        """Wake the listener for the last time."""
        self.is_over = True
        self._changed.set()

    async def changed(self, within_seconds: float) -> bool:
        """Wait for a change; False when there was none in that time."""
        try:
            async with asyncio.timeout(within_seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        self._changed.clear()
        return True


class EventStreams:
    """The listeners of this process. One query looks at all their events, and only while there are any.

    What happened is in Postgres whichever process did it, so that any number of API processes show the same.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watches: set[Watch] = set()
        self._looking: asyncio.Task[None] | None = None
        self._is_closed = False

    @asynccontextmanager
    async def watch(self, event_id: UUID) -> AsyncIterator[Watch]:
        """Watch an event while the block runs.

        Raises:
            UnavailableError: Too many streams are open in this process, or it stops.
        """
        if self._is_closed or len(self._watches) >= MOST_STREAMS:
            raise UnavailableError(f"This process has {MOST_STREAMS} streams open, or stops. Try again shortly.")
        watch = Watch(event_id)
        self._watches.add(watch)
        if self._looking is None:
            self._looking = asyncio.create_task(self._look())
        try:
            yield watch
        finally:
            self._watches.discard(watch)
            if not self._watches and self._looking is not None:
                self._looking.cancel()
                self._looking = None

    def close(self) -> None:
        """End every stream: a server that stops waits for them."""
        self._is_closed = True
        for watch in self._watches:
            watch.end()

    async def _look(self) -> None:
        while True:
            started = time.monotonic()
            try:
                async with self._database.connection() as connection:
                    marks = await event_versions.marks(connection, {watch.event_id for watch in self._watches})
                for watch in self._watches:
                    watch.see(marks.get(watch.event_id))
            except UnavailableError as error:
                log.warning("events that are streamed cannot be looked at", reason=error.message)
            except Exception:
                log.exception("events that are streamed cannot be looked at")
            # An event of many thousand steps takes longer to look at; it must not take the database for itself.
            await asyncio.sleep(max(_LOOK_SECONDS, 3 * (time.monotonic() - started)))

"""Writing what happened before anyone hears of it, however long Postgres is away."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TypeVar

import psycopg
import stamina
import structlog

from latchflow.errors import UnavailableError
from latchflow.model import InvocationStatus, Phase
from latchflow.store import attempts
from latchflow.store.attempts import AttemptKey, Ending, Task
from latchflow.store.database import Connection, Database

LIMIT = timedelta(seconds=100)
"""How long a write is tried again. What is not on record by then is found by the next attempt or the closer."""

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Recorder:
    """Writes endings and effects, each in a task of its own.

    A cancellation reaches whoever waits for the record, not the record: an action that has run must not run again
    because Temporal lost patience while Postgres was away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writing: set[asyncio.Task[object]] = set()

    async def end(self, row: Task, key: AttemptKey, ending: Ending, *, number: int) -> bool:
        """Record how an attempt ended; False when it had an ending already.

        Raises:
            UnavailableError: The database was away for too long.
        """

        async def write(connection: Connection) -> bool:
            try:
                return await attempts.end(connection, row, key, ending, number=number)
            except (psycopg.DataError, psycopg.ProgrammingError) as error:
                # What cannot be stored as it is must not leave the attempt without an ending.
                log.exception("an ending could not be stored", invocation_id=str(row.invocation_id))
                return await attempts.end(connection, row, key, _unstorable(error), number=number)

        return await self._write(write)

    async def write(self, write: Callable[[Connection], Awaitable[T]]) -> T:
        """Write something inside one transaction, whose repetition does no harm.

        Raises:
            UnavailableError: The database was away for too long.
        """

        async def together(connection: Connection) -> T:
            async with connection.transaction():
                return await write(connection)

        return await self._write(together)

    async def close(self, *, within: timedelta) -> None:
        """Give writes in progress a last chance."""
        if self._writing:
            await asyncio.wait(self._writing, timeout=within.total_seconds())

    async def _write(self, write: Callable[[Connection], Awaitable[T]]) -> T:
        task = asyncio.create_task(self._until_written(write))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await asyncio.shield(task)

    async def _until_written(self, write: Callable[[Connection], Awaitable[T]]) -> T:
        async for trial in stamina.retry_context(
            on=UnavailableError, attempts=None, timeout=LIMIT, wait_initial=0.1, wait_max=2.0
        ):
            with trial:
                async with self._database.connection() as connection:
                    return await write(connection)
        raise AssertionError("the retry context raises when it gives up")


def _unstorable(error: Exception) -> Ending:
    return Ending(
        phase=Phase.FAILED_PERMANENT,
        status=InvocationStatus.FAILED_PERMANENT,
        error={"type": "Unstorable", "message": f"The result cannot be stored: {type(error).__name__}."},
    )

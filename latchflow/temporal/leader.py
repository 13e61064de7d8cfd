"""Work that one process of a deployment does at a time: chores that must see Temporal from outside."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg
import structlog

_ANSWER_SECONDS = 10.0

log = structlog.get_logger(__name__)


class Leader:
    """Holds an advisory lock of Postgres while it does its chores; another process takes over when it goes.

    The lock belongs to a connection of its own: when that breaks, the lock is free, so the chores stop with it.
    """

    def __init__(self, url: str, *, lock_id: int, retry_seconds: float = 5.0) -> None:
        self._url = url
        self._lock_id = lock_id
        self._retry_seconds = retry_seconds

    async def run(self, chores: Callable[[], Awaitable[None]]) -> None:
        """Become the leader again and again, and run the chores while it lasts; ends by cancellation only."""
        while True:
            try:
                await self._lead(chores)
            except (psycopg.OperationalError, OSError) as error:
                log.warning("leadership lost", reason=str(error).splitlines()[0] if str(error) else "")
            except Exception:
                log.exception("a chore failed; it will be started again")
            stop_if_cancelled()
            await asyncio.sleep(self._retry_seconds)

    async def _lead(self, chores: Callable[[], Awaitable[None]]) -> None:
        connection = await psycopg.AsyncConnection.connect(self._url, autocommit=True, connect_timeout=5)
        async with connection:
            row = await (await connection.execute("SELECT pg_try_advisory_lock(%s)", (self._lock_id,))).fetchone()
            if row is None or not row[0]:
                return
            stop_if_cancelled()
            log.info("leading the chores")
            tasks = {asyncio.create_task(_as_coroutine(chores)), asyncio.create_task(self._watch(connection))}
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
            for task in done:
                task.result()

    async def _watch(self, connection: psycopg.AsyncConnection) -> None:
        """Raise as soon as the lock's connection is broken, or does not answer."""
        while True:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await connection.execute("SELECT 1")
            stop_if_cancelled()
            await asyncio.sleep(self._retry_seconds)


def stop_if_cancelled() -> None:
    """Raise a cancellation of the running task that a library dropped.

    Before Python 3.12, ``asyncio.wait_for``, which psycopg uses, drops one that comes together with its result. A
    loop that never ends would go on, and whoever cancelled it wait for ever.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def _as_coroutine(chores: Callable[[], Awaitable[None]]) -> None:
    await chores()

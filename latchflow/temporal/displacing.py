"""Cancelling what a newer event of the same trigger takes the place of."""

import asyncio
from collections.abc import Sequence

import structlog
from temporalio.service import RPCError

from latchflow.errors import UnavailableError
from latchflow.model import InvocationStatus
from latchflow.store import events, gates
from latchflow.store.database import Database
from latchflow.store.gates import Unwanted
from latchflow.temporal.closing import Start, cancel_waiting, close_event
from latchflow.temporal.starting import Starter

_BATCH = 50
_AT_ONCE = 5
"""Each takes a connection of the pool, which requests need, too."""

_REASON = "Cancelled: a newer event of the trigger took its place (overlap: cancel_other)."

log = structlog.get_logger(__name__)


async def cancel_due(database: Database, starter: Starter, start: Start) -> int:
    """Cancel what is wanted to be cancelled and was not asked for yet, some of it a turn.

    Returns:
        How many were asked for, or closed.
    """
    async with database.connection() as connection:
        unwanted = await gates.unwanted(connection, limit=_BATCH)
    return await cancel_unwanted(database, starter, start, unwanted)


async def cancel_unwanted(database: Database, starter: Starter, start: Start, unwanted: Sequence[Unwanted]) -> int:
    """Cancel the first of these events, a few at a time. What is left, or fails because a part is away, stays noted.

    Returns:
        How many were asked for, or closed.
    """
    few = asyncio.Semaphore(_AT_ONCE)

    async def cancel(event: Unwanted) -> bool:
        async with few:
            return await _cancel(database, starter, start, event)

    answers = await asyncio.gather(*map(cancel, unwanted[:_BATCH]))
    return answers.count(True)


async def _cancel(database: Database, starter: Starter, start: Start, event: Unwanted) -> bool:
    try:
        if event.is_waiting:
            async with database.transaction() as connection:
                return await cancel_waiting(connection, event.id, reason=_REASON)
        if await starter.cancel(event.id):
            async with database.transaction() as connection:
                # It has a workflow, whether or not whoever started it came to say so: the closer looks after it.
                await events.confirm_start(connection, event.id)
                await gates.note_asked(connection, event.id)
            return True
        # None of it is open. Should it be started in this moment, its actions find their invocations ended.
        await close_event(
            database,
            event.id,
            outcomes={},
            closed_by="dispatch",
            reason=_REASON,
            default=InvocationStatus.CANCELLED,
            start=start,
        )
    except (RPCError, RuntimeError, UnavailableError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        log.warning("event not cancelled yet, it will be tried again", event_id=str(event.id), reason=reason)
        return False
    return True

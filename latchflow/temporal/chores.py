"""Work that one process of the deployment does again and again: the leading API process."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from temporalio.service import RPCError

from latchflow.errors import UnavailableError
from latchflow.temporal.leader import stop_if_cancelled

LEADER_LOCK_ID = 0x1A7C4F11  # any constant that no other lock of the deployment's database uses

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Chore:
    """One of them.

    Attributes:
        name: As logs name it.
        every_seconds: The pause after each turn.
        run_once: One turn; level-triggered, so that one that failed or was cut short is made up for by the next.
    """

    name: str
    every_seconds: float
    run_once: Callable[[], Awaitable[object]]


async def run_chores(chores: Sequence[Chore]) -> None:
    """Run all of them until cancelled. A part that is away is met with patience, not with an end."""
    async with asyncio.TaskGroup() as group:
        for chore in chores:
            group.create_task(_run(chore))


async def _run(chore: Chore) -> None:
    while True:
        try:
            await chore.run_once()
        except (RPCError, RuntimeError, UnavailableError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("a chore has to wait", chore=chore.name, reason=reason)
        except Exception:
            # One chore's fault must not stop the others.
            log.exception("a chore failed, it will be tried again", chore=chore.name)
        stop_if_cancelled()
        await asyncio.sleep(chore.every_seconds)

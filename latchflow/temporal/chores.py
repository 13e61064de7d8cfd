"""The loops of the leading API process: drainer, closer, cancellations, bulk operations, upkeep, leftovers."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from temporalio.service import RPCError

from latchflow.errors import UnavailableError
from latchflow.services.storage import Storage
from latchflow.store import upkeep
from latchflow.store.database import Database
from latchflow.temporal.bulk import BulkOperations
from latchflow.temporal.cancelling import Canceller
from latchflow.temporal.closer import Closer
from latchflow.temporal.dispatch import Dispatcher
from latchflow.temporal.leader import stop_if_cancelled
from latchflow.temporal.waking import Waker

LEADER_LOCK_ID = 0x1A7C4F11  # any constant that no other lock of the deployment's database uses

_DRAIN_SECONDS = 1.0
_TELL_SECONDS = 1.0
_WAKE_SECONDS = 2.0
_CLOSE_SECONDS = 30.0
_UPKEEP_SECONDS = 600.0
_LEFTOVERS_SECONDS = 30.0

log = structlog.get_logger(__name__)


async def run_chores(
    database: Database,
    dispatcher: Dispatcher,
    closer: Closer,
    storage: Storage,
    waker: Waker,
    *,
    canceller: Canceller,
    bulk: BulkOperations,
) -> None:
    """Run all loops until cancelled. A part that is away is met with patience, not with an end."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_every(_DRAIN_SECONDS, "drainer", dispatcher.drain))
        group.create_task(_every(_WAKE_SECONDS, "waker", waker.run_once))
        group.create_task(_every(_CLOSE_SECONDS, "closer", closer.run_once))
        group.create_task(_every(_TELL_SECONDS, "cancellations", canceller.tell_all))
        group.create_task(_every(_DRAIN_SECONDS, "start of bulk operations", bulk.start_waiting))
        group.create_task(_every(_CLOSE_SECONDS, "end of bulk operations", bulk.look_after))
        group.create_task(_every(_UPKEEP_SECONDS, "upkeep", lambda: upkeep.run(database)))
        group.create_task(_every(_LEFTOVERS_SECONDS, "leftovers of the storage", lambda: _tidy(storage)))


async def _tidy(storage: Storage) -> None:
    while await storage.remove_leftovers():
        stop_if_cancelled()


async def _every(seconds: float, name: str, chore: Callable[[], Awaitable[object]]) -> None:
    while True:
        try:
            await chore()
        except (RPCError, RuntimeError, UnavailableError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("a chore has to wait", chore=name, reason=reason)
        except Exception:
            # One chore's fault must not stop the others.
            log.exception("a chore failed, it will be tried again", chore=name)
        stop_if_cancelled()
        await asyncio.sleep(seconds)

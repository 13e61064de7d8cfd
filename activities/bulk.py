"""Carrying out an operation on many events."""

import asyncio
import time
from typing import Any
from uuid import UUID

import psycopg
import structlog
from temporalio import activity

from activities.heartbeat import beating
from latchflow.errors import LatchflowError
from latchflow.masking import readable
from latchflow.names import CONTINUE_BULK
from latchflow.repeats import Rerun, StepPoint
from latchflow.store import audit, bulk
from latchflow.store.bulk import Bulk, Turn
from latchflow.store.cancellations import Wish
from latchflow.store.database import Connection, Database
from latchflow.temporal.bulk import finish
from latchflow.temporal.cancelling import Canceller
from latchflow.temporal.dispatch import Dispatcher, Opening
from latchflow.temporal.rerunning import Rerunner

_TURN_SECONDS = 20.0
"""How long one call goes on: long enough to need few of them, short enough to be stopped at any time."""

_LONGEST_ERROR = 1000

log = structlog.get_logger(__name__)


class BulkActivities:
    """The activity of bulk operations."""

    def __init__(
        self,
        database: Database,
        *,
        canceller: Canceller,
        rerunner: Rerunner,
        dispatcher: Dispatcher,
    ) -> None:
        self._database = database
        self._canceller = canceller
        self._rerunner = rerunner
        self._dispatcher = dispatcher

    @activity.defn(name=CONTINUE_BULK)
    async def continue_bulk(self, bulk_id: UUID) -> bool:
        """Take event after event for a while, at the rate of the operation.

        Retried until it succeeds. What makes it happen once: an event is handled, counted and passed by in one
        transaction under the lock of the operation's row, which also keeps the time of the next one, so that the rate
        holds over restarts and for two workers at once. Heartbeats every two seconds.

        Returns:
            Whether the operation is over.
        """
        end = time.monotonic() + _TURN_SECONDS
        async with beating():
            while (left := end - time.monotonic()) > 0:
                turn = await self._turn(bulk_id)
                if turn is None:
                    return True
                if turn.wait.total_seconds() > 0:
                    await asyncio.sleep(min(turn.wait.total_seconds(), left))
        return False

    async def _turn(self, bulk_id: UUID) -> Turn | None:
        done: Opening | Wish | None = None
        async with self._database.transaction() as connection:
            turn = await bulk.take_turn(connection, bulk_id)
            if turn is None:
                await finish(connection, bulk_id)
                return None
            if turn.event_id is not None:
                audit.calling.set(turn.bulk.caller)
                error = None
                try:
                    async with connection.transaction():
                        done = await self._operate(connection, turn.bulk, turn.event_id)
                except psycopg.OperationalError:
                    raise  # the database is away, or asks to try again
                except LatchflowError as refusal:
                    error = readable(f"{turn.event_id}: {refusal.message}")[:_LONGEST_ERROR]
                except Exception as fault:
                    # One event's fault must not keep the others from their turn.
                    log.exception("an event of a bulk operation failed", event_id=str(turn.event_id))
                    error = f"{turn.event_id}: {type(fault).__name__}; the worker's log has more."
                await bulk.count(connection, bulk_id, error=error)
        if isinstance(done, Wish):
            self._canceller.tell(done)
        elif done is not None:
            self._dispatcher.begin(done)
        return turn

    async def _operate(self, connection: Connection, about: Bulk, event_id: UUID) -> Opening | Wish | None:
        if about.operation == "cancel":
            return await self._canceller.cancel_event_within(
                connection, event_id, actor=about.started_by, bulk_id=about.id
            )
        _, opening = await self._rerunner.rerun_within(
            connection,
            event_id,
            _rerun_of(about.options),
            actor=about.started_by,
            key=f"bulk:{about.id}",
            limits=bulk.limits_of(about),
            bulk_id=about.id,
        )
        return opening


def _rerun_of(options: Any) -> Rerun:
    start = options["from"]
    if isinstance(start, dict):
        pipeline_id = UUID(start["pipelineId"]) if start.get("pipelineId") else None
        start = StepPoint(step=start["step"], pipeline_id=pipeline_id)
    return Rerun(start=start, definitions=options["definitions"])

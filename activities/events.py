"""The bookkeeping of an event."""

from temporalio import activity
from temporalio.exceptions import ApplicationError

from latchflow.model import Closing, EventStatus, InvocationStatus, RunClosing
from latchflow.names import CLOSE_EVENT, CLOSE_RUN
from latchflow.store import events
from latchflow.store.database import Database
from latchflow.temporal.closing import Start, close_event, close_run


class EventActivities:
    """Activities that write to Postgres only.

    Args:
        database: Where.
        start: Starts, behind them, what waited for the end of an event; without it, the drainer does.
    """

    def __init__(self, database: Database, *, start: Start | None = None) -> None:
        self._database = database
        self._start = start

    @activity.defn(name=CLOSE_EVENT)
    async def close_event(self, closing: Closing) -> str:
        """Write the statuses of an event that has run; a local activity, retried until Postgres answers.

        A repeat finds the event closed and answers with the status that was written. No heartbeats.

        Returns:
            The event's status.
        """
        status = await close_event(
            self._database,
            closing.event_id,
            outcomes={outcome.invocation_id: outcome for outcome in closing.outcomes},
            closed_by="workflow",
            reason="cancelled" if closing.is_cancelled else None,
            default=InvocationStatus.CANCELLED if closing.is_cancelled else InvocationStatus.FAILED,
            start=self._start,
        )
        return status or await self._status_written(closing)

    @activity.defn(name=CLOSE_RUN)
    async def close_run(self, closing: RunClosing) -> None:
        """Write how a run ended whose event goes on; a local activity, retried until Postgres answers.

        A repeat finds the run closed and does nothing. No heartbeats.
        """
        await close_run(
            self._database,
            closing.event_id,
            closing.run_id,
            outcomes={outcome.invocation_id: outcome for outcome in closing.outcomes},
            reason="cancelled" if closing.is_cancelled else None,
            default=InvocationStatus.CANCELLED if closing.is_cancelled else InvocationStatus.FAILED,
        )

    async def _status_written(self, closing: Closing) -> EventStatus:
        async with self._database.connection() as connection:
            found = await events.status_of(connection, closing.event_id)
        if found is None:
            message = f"There is no event {closing.event_id} in the database; its workflow has nothing to close."
            raise ApplicationError(message, type="UnknownEvent", non_retryable=True)
        status, _ = found
        return status

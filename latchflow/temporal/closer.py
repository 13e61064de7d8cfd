"""The closer: asks Temporal about events gone silent, so that nothing stays in limbo."""

from datetime import UTC, datetime, timedelta

import structlog
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from latchflow.errors import UnavailableError
from latchflow.names import TRIGGER_EVENT_WORKFLOW, event_id_of, event_workflow_id
from latchflow.store import silence
from latchflow.store.database import Database
from latchflow.store.silence import SilentEvent
from latchflow.temporal.closing import Start, close_event
from latchflow.temporal.families import descriptions

_RPC_TIMEOUT = timedelta(seconds=5)
_BATCH = 200
_MOST_WORKFLOWS = 20
"""Of one event that are asked whether they are stuck."""

_MOST_LISTED = 10_000
"""Of one turn: a termination in bulk is closed within a few turns."""

_AWAY = frozenset({RPCStatusCode.UNAVAILABLE, RPCStatusCode.UNAUTHENTICATED, RPCStatusCode.PERMISSION_DENIED})
_LISTED_FOR = timedelta(minutes=10)
"""How far back the list of ended workflows goes: many turns, so that one that failed leaves no gap."""


_ENDED = {
    WorkflowExecutionStatus.TERMINATED: "its workflow was terminated",
    WorkflowExecutionStatus.FAILED: "its workflow failed",
    WorkflowExecutionStatus.TIMED_OUT: "its workflow timed out",
    WorkflowExecutionStatus.CANCELED: "its workflow was cancelled without closing it",
    WorkflowExecutionStatus.COMPLETED: "its workflow ended without closing it",
}

log = structlog.get_logger(__name__)


class Closer:
    """Closes events whose workflow is over or gone, and marks those whose workflow task keeps failing."""

    def __init__(
        self, database: Database, client: Client, *, stuck_after_attempts: int = 3, start: Start | None = None
    ) -> None:
        self._start = start
        self._database = database
        self._client = client
        self._stuck_after_attempts = stuck_after_attempts

    async def run_once(self) -> int:
        """Look at the open events that Temporal lists as ended badly, or that have been silent for a minute.

        The list finds a termination at once, whatever the event was waiting for; a workflow that was deleted is in
        no list, so silent events are asked about one by one.

        Returns:
            How many were closed.

        Raises:
            UnavailableError: The database is away.
            RPCError: Temporal is away; nothing was decided.
        """
        async with self._database.connection() as connection:
            due = await silence.due(connection, limit=_BATCH)
        closed = 0
        for event in {event.id: event for event in (*await self._ended_badly(), *due)}.values():
            try:
                closed += await self._look_at(event)
            except UnavailableError:
                raise
            except Exception as error:
                if isinstance(error, RPCError) and error.status in _AWAY:
                    raise
                # Something about this one event; the others must not wait behind it.
                log.exception("an event could not be looked at", event_id=str(event.id))
                async with self._database.connection() as connection:
                    await silence.look_later(connection, event.id, is_stuck=True)
        return closed

    async def _ended_badly(self) -> list[SilentEvent]:
        """The open events whose workflow Temporal lists as terminated, failed, timed out or cancelled lately."""
        since = (datetime.now(UTC) - _LISTED_FOR).isoformat()
        query = (
            f"WorkflowType = '{TRIGGER_EVENT_WORKFLOW}' AND CloseTime > '{since}' "
            "AND ExecutionStatus IN ('Terminated', 'Failed', 'TimedOut', 'Canceled')"
        )
        listed = self._client.list_workflows(query, limit=_MOST_LISTED, rpc_timeout=_RPC_TIMEOUT)
        try:
            ids = [event_id for workflow in [w async for w in listed] if (event_id := event_id_of(workflow.id))]
        except RPCError as error:
            # Without the list, the silent events are still asked about one by one.
            log.warning("Temporal's list of workflows cannot be read", reason=error.message)
            return []
        async with self._database.connection() as connection:
            return await silence.open_among(connection, ids)

    async def _look_at(self, event: SilentEvent) -> bool:
        reason = await self._why_closed(event)
        if reason is None:
            return False
        status = await close_event(
            self._database,
            event.id,
            outcomes={},
            closed_by="closer",
            reason=f"Closed: {reason}.",
            start=self._start,
        )
        if status is not None:
            log.warning("event closed", event_id=str(event.id), status=status, reason=reason)
        return status is not None

    async def _why_closed(self, event: SilentEvent) -> str | None:
        """Why the event must be closed; None when its workflow goes on, which is noted with the time to look again."""
        handle = self._client.get_workflow_handle(event_workflow_id(event.id))
        try:
            description = await handle.describe(rpc_timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return "its workflow is gone from Temporal"
            raise
        if description.status in _ENDED:
            return _ENDED[description.status]
        is_stuck = await self._is_stuck(event)
        async with self._database.connection() as connection:
            await silence.look_later(connection, event.id, is_stuck=is_stuck)
        return None

    async def _is_stuck(self, event: SilentEvent) -> bool:
        """Whether the code of its workflow keeps failing, or that of one below it."""
        family = await descriptions(self._client, event.id, most=_MOST_WORKFLOWS)
        return any(one.pending_workflow_task.attempt >= self._stuck_after_attempts for one in family)

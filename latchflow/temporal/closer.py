"""The closer: asks Temporal about events gone silent, so that nothing stays in limbo."""

from datetime import timedelta

import structlog
from temporalio.client import Client, WorkflowExecutionDescription, WorkflowExecutionStatus
from temporalio.service import RPCError, RPCStatusCode

from latchflow.names import event_workflow_id
from latchflow.store import silence
from latchflow.store.database import Database
from latchflow.store.silence import SilentEvent
from latchflow.temporal.closing import close_event

_RPC_TIMEOUT = timedelta(seconds=5)
_BATCH = 200

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

    def __init__(self, database: Database, client: Client, *, stuck_after_attempts: int = 3) -> None:
        self._database = database
        self._client = client
        self._stuck_after_attempts = stuck_after_attempts

    async def run_once(self) -> int:
        """Look at the open events that are due and have been silent for a minute.

        Returns:
            How many were closed.

        Raises:
            UnavailableError: The database is away.
            RPCError: Temporal is away; nothing was decided.
        """
        async with self._database.connection() as connection:
            due = await silence.due(connection, limit=_BATCH)
        closed = 0
        for event in due:
            reason = await self._why_closed(event)
            if reason is None:
                continue
            status = await close_event(
                self._database, event.id, outcomes={}, closed_by="closer", reason=f"Closed: {reason}."
            )
            if status is not None:
                closed += 1
                log.warning("event closed", event_id=str(event.id), status=status, reason=reason)
        return closed

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
        async with self._database.connection() as connection:
            await silence.look_later(connection, event.id, is_stuck=self._is_stuck(description))
        return None

    def _is_stuck(self, description: WorkflowExecutionDescription) -> bool:
        task = description.raw_description.pending_workflow_task
        return task is not None and task.attempt >= self._stuck_after_attempts

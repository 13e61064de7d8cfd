"""Bulk operations: asked for here, carried out by `BulkWorkflow`, looked after by the leading API process."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

import structlog
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from latchflow.errors import UnavailableError
from latchflow.model import AuditKind
from latchflow.names import BULK_WORKFLOW, CORE_TASK_QUEUE, bulk_workflow_id
from latchflow.store import audit, bulk
from latchflow.store.bulk import Bulk, Operation
from latchflow.store.database import Connection, Database
from latchflow.store.visibility import Limits

_RPC_TIMEOUT = timedelta(seconds=3)
_ENDED = {
    WorkflowExecutionStatus.TERMINATED: "was terminated",
    WorkflowExecutionStatus.FAILED: "failed",
    WorkflowExecutionStatus.TIMED_OUT: "timed out",
    WorkflowExecutionStatus.CANCELED: "was cancelled",
    WorkflowExecutionStatus.COMPLETED: "ended too early",
}

log = structlog.get_logger(__name__)


class BulkOperations:
    """Begins operations on many events, and ends those whose workflow is gone."""

    def __init__(self, database: Database, client: Client) -> None:
        self._database = database
        self._client = client

    async def begin(
        self,
        operation: Operation,
        wanted: Mapping[str, Any],
        *,
        options: Mapping[str, Any],
        limits: Limits | None,
        rate_per_second: float,
        actor: str,
    ) -> Bulk:
        """Make an operation durable, then start it; the chore starts what Temporal did not take.

        Args:
            operation: ``cancel`` or ``rerun``.
            wanted: The filter, with the names of the API; nothing in it means every event.
            options: Of a re-run.
            limits: The events that its starter sees.
            rate_per_second: Events at most.
            actor: Who starts it.

        Raises:
            UnavailableError: The database is away; nothing was created.
        """
        async with self._database.transaction() as connection:
            created = await bulk.create(
                connection,
                operation=operation,
                wanted=wanted,
                options=options,
                limits=limits,
                rate_per_second=rate_per_second,
                actor=actor,
                caller=audit.calling.get(),
            )
            await _record(connection, created, "begin", {"filter": dict(wanted), "total": created.total})
        if created.finished_at is None:
            try:
                await self._start(created.id)
            except (RPCError, RuntimeError, UnavailableError) as error:
                log.warning("bulk operation not started yet, it will be tried again", reason=str(error).split("\n")[0])
        return created

    async def start_waiting(self) -> None:
        """Start what Temporal was not told of. Raises as the client does, when Temporal is away."""
        async with self._database.connection() as connection:
            waiting = await bulk.unfinished(connection, is_started=False)
        for bulk_id in waiting:
            await self._start(bulk_id)

    async def look_after(self) -> None:
        """End operations whose workflow is over or gone. Raises as the client does, when Temporal is away."""
        async with self._database.connection() as connection:
            running = await bulk.unfinished(connection, is_started=True)
        for bulk_id in running:
            if (reason := await self._why_over(bulk_id)) is not None:
                fault = f"Its workflow {reason}. What was done so far stays; start another for the rest."
                async with self._database.transaction() as connection:
                    await finish(connection, bulk_id, fault=fault)

    async def _start(self, bulk_id: UUID) -> None:
        try:
            await self._client.start_workflow(
                BULK_WORKFLOW,
                bulk_id,
                id=bulk_workflow_id(bulk_id),
                task_queue=CORE_TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                rpc_timeout=_RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            log.info("bulk operation was started before", bulk_id=str(bulk_id))
        async with self._database.connection() as connection:
            await bulk.confirm_start(connection, bulk_id)

    async def _why_over(self, bulk_id: UUID) -> str | None:
        try:
            description = await self._client.get_workflow_handle(bulk_workflow_id(bulk_id)).describe(
                rpc_timeout=_RPC_TIMEOUT
            )
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND and "namespace" not in error.message.lower():
                return "is gone from Temporal"
            raise
        return _ENDED.get(description.status) if description.status else None


async def finish(connection: Connection, bulk_id: UUID, *, fault: str | None = None) -> None:
    """End an operation, with its audit entry, inside a transaction; nothing happens when it is over."""
    ended = await bulk.finish(connection, bulk_id, fault=fault)
    if ended is not None:
        counts = {"status": ended.status, "total": ended.total, "done": ended.done, "failed": ended.failed}
        await _record(connection, ended, "end", counts)


async def _record(connection: Connection, about: Bulk, operation: str, detail: Mapping[str, Any]) -> None:
    about_it = {"object": "bulk", "id": str(about.id), "operation": operation, "of": about.operation}
    detail = {**about_it, "caller": dict(about.caller), **detail}
    await audit.record(connection, audit.AuditEntry(kind=AuditKind.ADMIN, actor=about.started_by, detail=detail))

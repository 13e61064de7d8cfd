"""An operation on many events."""

from datetime import timedelta
from uuid import UUID

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from latchflow.names import BULK_WORKFLOW, CONTINUE_BULK
    from latchflow.temporal import policies


@workflow.defn(name=BULK_WORKFLOW, failure_exception_types=policies.FAILURE_TYPES)
class BulkWorkflow:
    """Cancels or re-runs every event of a filter.

    Started by the API or its chore with the id ``bulk:{bulkId}``. Everything it knows is in Postgres: it only asks to
    go on until nothing is left, and goes on as new before its history grows large. One that is terminated is ended by
    the chore, with the reason.
    """

    @workflow.run
    async def run(self, bulk_id: UUID) -> None:
        """Carry the operation to its end."""
        is_over = False
        while not is_over:
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(bulk_id)
            is_over = await workflow.execute_activity(
                CONTINUE_BULK,
                bulk_id,
                result_type=bool,
                start_to_close_timeout=timedelta(seconds=60),
                heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
                retry_policy=policies.BOOKKEEPING_RETRY,
            )

"""One run: its steps group by group, in the event's workflow or, when the event owes much, in one of its own."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from latchflow import plan
    from latchflow.model import ActionTask, Outcome, PlannedStep, RunClosing, RunTask
    from latchflow.names import CLOSE_RUN, RUN_WORKFLOW, run_workflow_id
    from latchflow.temporal import policies

from workflows.bookkeeping import record, until_done
from workflows.invocations import execute, or_cancelled
from workflows.items import execute_items
from workflows.progress import Progress


@workflow.defn(name=RUN_WORKFLOW, failure_exception_types=policies.FAILURE_TYPES)
class RunWorkflow:
    """Carries out one run of an event that owes more than one workflow should hold.

    Started by `TriggerEventWorkflow` with the id ``run:{runId}``. Its run is closed before it ends; cancelled, it
    closes its run as cancelled and ends as cancelled.
    """

    @workflow.run
    async def run(self, task: RunTask) -> str:
        """Carry out the run, then close it.

        Returns:
            The status that follows from its steps; only to be shown, what counts is the record.
        """
        progress = Progress([task.run])
        progress.end(*plan.outcomes_kept(task.run).values())
        try:
            await carry_out(task, progress)
        except asyncio.CancelledError:
            progress.cancel(task.run)
            await until_done(asyncio.create_task(close_run(task, progress.outcomes, is_cancelled=True)))
            raise
        await until_done(asyncio.create_task(close_run(task, progress.outcomes)))
        return plan.run_status(task.run, progress.outcomes).value


async def carry_out(task: RunTask, progress: Progress) -> None:
    """Carry out a run.

    Args:
        task: Which.
        progress: What has ended so far; every ending is added, also when the run is cancelled.
    """
    while group := plan.next_steps(task.run, progress.outcomes):
        await asyncio.gather(*(_execute(task, step, progress) for step in group))
    progress.end(*plan.skips(task.run, progress.outcomes))


async def in_a_child(task: RunTask, progress: Progress) -> None:
    """Carry out a run in a workflow of its own.

    It closes its run, also when it is cancelled. What it could not close is closed with the event.
    """
    progress.stand(task.run.run_id, "RUNNING")
    try:
        status = await workflow.execute_child_workflow(
            RUN_WORKFLOW,
            replace(task, is_divided=True),
            id=run_workflow_id(task.run.run_id),
            result_type=str,
            cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
            static_summary=f"run of {task.run.pipeline_name}",
        )
    except ChildWorkflowError as error:
        is_cancelled = is_cancelled_exception(error)
        progress.stand(task.run.run_id, "CANCELLED" if is_cancelled else "FAILED")
        if not is_cancelled:
            workflow.logger.error("the workflow of a run failed", extra={"run_id": str(task.run.run_id)})
    else:
        progress.stand(task.run.run_id, status)


async def close_run(task: RunTask, outcomes: Mapping[UUID, Outcome], *, is_cancelled: bool = False) -> None:
    """Write how a run ended, before its event does."""
    mine = {step.invocation_id for step in task.run.every_step}
    closing = RunClosing(
        event_id=task.event_id,
        run_id=task.run.run_id,
        outcomes=tuple(replace(outcome, output=None) for key, outcome in outcomes.items() if key in mine),
        is_cancelled=is_cancelled,
    )
    await record(CLOSE_RUN, closing, type(None))


async def _execute(task: RunTask, step: PlannedStep, progress: Progress) -> None:
    run = task.run
    action = ActionTask(
        event_id=task.event_id,
        trigger_id=task.trigger_id,
        trigger_name=task.trigger_name,
        pipeline_id=run.pipeline_id,
        pipeline_name=run.pipeline_name,
        run_id=run.run_id,
        step=step,
    )
    most_inline = 0 if task.is_divided else plan.ITEMS_INLINE
    way = execute_items(action, most_inline=most_inline) if step.is_for_each else execute(action)
    progress.begin(step.invocation_id)
    progress.end(await or_cancelled(step.invocation_id, way))

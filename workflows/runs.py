"""One run: its steps group by group, in the event's workflow or, when the event owes much, in one of its own."""

import asyncio
from collections.abc import Mapping, MutableMapping
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


@workflow.defn(name=RUN_WORKFLOW, failure_exception_types=policies.FAILURE_TYPES)
class RunWorkflow:
    """Carries out one run of an event that owes more than one workflow should hold.

    Started by `TriggerEventWorkflow` with the id ``run:{runId}``. Its run is closed before it ends, so that it has no
    result; cancelled, it closes its run as cancelled and ends as cancelled.
    """

    @workflow.run
    async def run(self, task: RunTask) -> None:
        """Carry out the run, then close it."""
        outcomes = plan.outcomes_kept(task.run)
        try:
            await carry_out(task, outcomes)
        except asyncio.CancelledError:
            await until_done(asyncio.create_task(close_run(task, outcomes, is_cancelled=True)))
            raise
        await until_done(asyncio.create_task(close_run(task, outcomes)))


async def carry_out(task: RunTask, outcomes: MutableMapping[UUID, Outcome]) -> None:
    """Carry out a run.

    Args:
        task: Which.
        outcomes: What has ended so far; every ending is added, also when the run is cancelled.
    """
    while group := plan.next_steps(task.run, outcomes):
        await asyncio.gather(*(_execute(task, step, outcomes) for step in group))
    for outcome in plan.skips(task.run, outcomes):
        outcomes[outcome.invocation_id] = outcome


async def in_a_child(task: RunTask) -> None:
    """Carry out a run in a workflow of its own.

    It closes its run, also when it is cancelled. What it could not close is closed with the event.
    """
    try:
        await workflow.execute_child_workflow(
            RUN_WORKFLOW,
            task,
            id=run_workflow_id(task.run.run_id),
            cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
            static_summary=f"run of {task.run.pipeline_name}",
        )
    except ChildWorkflowError as error:
        if not is_cancelled_exception(error):
            workflow.logger.error("the workflow of a run failed", extra={"run_id": str(task.run.run_id)})


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


async def _execute(task: RunTask, step: PlannedStep, outcomes: MutableMapping[UUID, Outcome]) -> None:
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
    way = execute_items(action) if step.is_for_each else execute(action)
    outcomes[step.invocation_id] = await or_cancelled(step.invocation_id, way)

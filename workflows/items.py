"""The items of a ``forEach``: a few beside the other steps, many in a workflow of their own, a hundred at a time."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from temporalio import workflow
from temporalio.exceptions import ChildWorkflowError, is_cancelled_exception
from temporalio.workflow import ChildWorkflowCancellationType

with workflow.unsafe.imports_passed_through():
    from latchflow import plan
    from latchflow.model import (
        ActionTask,
        Expansion,
        InvocationStatus,
        ItemCounts,
        ItemsTask,
        Outcome,
    )
    from latchflow.names import EXPAND_ITEMS, FINISH_ITEMS, ITEMS_WORKFLOW, items_workflow_id
    from latchflow.temporal import policies

from workflows.bookkeeping import record
from workflows.invocations import execute, or_cancelled


@workflow.defn(name=ITEMS_WORKFLOW, failure_exception_types=policies.FAILURE_TYPES)
class ItemsWorkflow:
    """Carries out the items of a ``forEach`` step that has many.

    Started by the workflow of its run with the id ``items:{invocationId}``. It goes on as new after each hundred, so
    that ``maxParallel`` holds over all of them and no history grows large. Ends with the counts of all items.
    """

    @workflow.run
    async def run(self, task: ItemsTask) -> ItemCounts:
        """Carry out the next hundred."""
        last = min(task.first + plan.ITEMS_AT_ONCE, task.count)
        counts = plan.count_items(await _side_by_side(task.task, range(task.first, last)), task.counts)
        if last < task.count:
            workflow.continue_as_new(replace(task, first=last, counts=counts))
        return counts


async def execute_items(action: ActionTask, *, most_inline: int) -> Outcome:
    """Carry a ``forEach`` step to its end: find its items, carry each out, and say how they ended together.

    Args:
        action: The step.
        most_inline: So many items are carried out here, more in a workflow of their own.
    """
    expansion = await record(EXPAND_ITEMS, action, Expansion)
    if expansion.outcome is not None:
        return expansion.outcome
    task = ItemsTask(task=action, count=expansion.count)
    if expansion.count > most_inline:
        counts = await _in_a_child(task)
    else:
        counts = plan.count_items(await _side_by_side(action, range(expansion.count)), ItemCounts())
    if counts is None:
        return Outcome(invocation_id=action.step.invocation_id, status=InvocationStatus.CANCELLED, reason="cancelled")
    return await record(FINISH_ITEMS, plan.outcome_of_items(action.step, counts), Outcome)


async def _side_by_side(action: ActionTask, indices: Sequence[int]) -> list[Outcome]:
    slots = asyncio.Semaphore(action.step.max_parallel)

    async def execute_one(index: int) -> Outcome:
        async with slots:
            return await execute(replace(action, step=plan.item_of(action.step, index)))

    ways = ((plan.item_invocation_id(action.step.invocation_id, index), execute_one(index)) for index in indices)
    return await asyncio.gather(*(or_cancelled(invocation_id, way) for invocation_id, way in ways))


async def _in_a_child(task: ItemsTask) -> ItemCounts | None:
    """The counts; None when it was cancelled."""
    try:
        counts: ItemCounts = await workflow.execute_child_workflow(
            ITEMS_WORKFLOW,
            task,
            id=items_workflow_id(task.task.step.invocation_id),
            result_type=ItemCounts,
            cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
            static_summary=f"{task.task.pipeline_name} / {task.task.step.name}: {task.count} items",
        )
    except ChildWorkflowError as error:
        if is_cancelled_exception(error):
            return None
        return ItemCounts(failed=task.count)
    return counts

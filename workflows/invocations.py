"""One invocation: an attempt, and as many turns of waiting and looking again as it asks for."""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, ChildWorkflowError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType, ChildWorkflowCancellationType

with workflow.unsafe.imports_passed_through():
    from latchflow import plan
    from latchflow.model import ActionTask, InvocationStatus, Outcome, WaitTask
    from latchflow.names import (
        BEGIN_WAIT,
        EXECUTE_ACTION,
        SETTLE_WAIT,
        WAIT_WORKFLOW,
        WAKE_SIGNAL,
        wait_workflow_id,
    )
    from latchflow.temporal import policies

from workflows.bookkeeping import record


@workflow.defn(name=WAIT_WORKFLOW, failure_exception_types=policies.FAILURE_TYPES)
class WaitWorkflow:
    """Waits with an invocation for a time, a callback or a decision, and looks at it then.

    Started by the workflow of its run with the id ``wait:{invocationId}``. Callbacks and decisions are rows before
    anyone signals; the signal only wakes, and what it finds is decided by the activity that looks. Ends with the
    invocation's outcome; it holds no worker while it waits, and goes on as new before its history grows large.
    """

    def __init__(self) -> None:
        self._is_woken = False

    @workflow.signal(name=WAKE_SIGNAL)
    def wake(self) -> None:
        """Look at the invocation now."""
        self._is_woken = True

    @workflow.run
    async def run(self, task: WaitTask) -> Outcome:
        """Wait and look, until it no longer waits."""
        action, until = task.task, task.until
        while True:
            await self._wait(until)
            self._is_woken = False
            outcome = await _look(action)
            if outcome.status is not InvocationStatus.WAITING:
                return outcome
            if _is_unwanted():
                raise asyncio.CancelledError
            # Not at once: by another clock than Temporal's its time may not have come yet.
            soonest = workflow.now() + plan.SHORTEST_WAIT
            action, until = replace(action, turn=action.turn + 1), max(outcome.wait_until or soonest, soonest)
            if workflow.info().is_continue_as_new_suggested():
                workflow.continue_as_new(WaitTask(task=action, until=workflow.now() if self._is_woken else until))

    async def _wait(self, until: datetime) -> None:
        left = until - workflow.now()
        if left <= timedelta(0):
            return
        try:
            await workflow.wait_condition(lambda: self._is_woken, timeout=left, timeout_summary="until it is looked at")
        except TimeoutError:
            return


async def execute(action: ActionTask) -> Outcome:
    """Carry an invocation to its end."""
    if action.step.kind == "action":
        outcome = await _attempt(action)
    else:
        outcome = await record(BEGIN_WAIT, action, Outcome)
    if outcome.status is InvocationStatus.WAITING and _is_unwanted():
        raise asyncio.CancelledError
    if outcome.status is InvocationStatus.WAITING and outcome.wait_until is not None:
        return await _wait_in_a_child(WaitTask(task=replace(action, turn=action.turn + 1), until=outcome.wait_until))
    return outcome


async def or_cancelled(invocation_id: UUID, way: Awaitable[Outcome]) -> Outcome:
    """What a way through an invocation gives; a cancellation is an outcome, so that its siblings are waited for."""
    try:
        return await way
    except BaseException as error:
        if not is_cancelled_exception(error):
            raise
        return Outcome(invocation_id=invocation_id, status=InvocationStatus.CANCELLED, reason="cancelled")


def _is_unwanted() -> bool:
    """Whether somebody has cancelled: a request is forgotten when what it reached ends in its own way all the same."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _look(action: ActionTask) -> Outcome:
    return await (_attempt(action) if action.step.kind == "action" else record(SETTLE_WAIT, action, Outcome))


async def _wait_in_a_child(task: WaitTask) -> Outcome:
    invocation_id = task.task.step.invocation_id
    try:
        outcome: Outcome = await workflow.execute_child_workflow(
            WAIT_WORKFLOW,
            task,
            id=wait_workflow_id(invocation_id),
            result_type=Outcome,
            # An attempt that is running gets time to clean up, and an ending, before the event closes.
            cancellation_type=ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
            static_summary=f"{task.task.pipeline_name} / {task.task.step.name} waits",
        )
    except ChildWorkflowError as error:
        if is_cancelled_exception(error):
            return Outcome(invocation_id=invocation_id, status=InvocationStatus.CANCELLED, reason="cancelled")
        reason = f"The workflow that waited for it ended badly: {error.cause or error}"
        return Outcome(invocation_id=invocation_id, status=InvocationStatus.FAILED, reason=reason)
    return outcome


async def _attempt(action: ActionTask) -> Outcome:
    step = action.step
    turn = f":{action.turn}" if action.turn else ""
    try:
        outcome: Outcome = await workflow.execute_activity(
            EXECUTE_ACTION,
            action,
            result_type=Outcome,
            task_queue=step.task_queue,
            activity_id=f"{step.invocation_id}{turn}",
            start_to_close_timeout=policies.START_TO_CLOSE,
            heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            retry_policy=policies.retry_policy(step),
            # The action gets time to clean up, and its attempt an ending, before the event closes.
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"{action.pipeline_name} / {step.name}: {step.capability_key} of {step.plugin}",
        )
    except ActivityError as error:
        return _outcome_of(action, error)
    return outcome


def _outcome_of(action: ActionTask, error: ActivityError) -> Outcome:
    invocation_id = action.step.invocation_id
    if is_cancelled_exception(error):
        return Outcome(invocation_id=invocation_id, status=InvocationStatus.CANCELLED, reason="cancelled")
    cause = error.cause
    status = InvocationStatus.FAILED
    if isinstance(cause, ApplicationError) and cause.details:
        status = InvocationStatus(cause.details[0])  # execute_action says which status it recorded
    elif _is_unwanted():
        status = InvocationStatus.CANCELLED  # its next attempt was not wanted any more
    return Outcome(invocation_id=invocation_id, status=status, reason=str(cause or error))

"""The durable way of one event: its runs side by side, their steps in order, then the closing."""

import asyncio
from dataclasses import replace
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError, is_cancelled_exception
from temporalio.workflow import ActivityCancellationType

with workflow.unsafe.imports_passed_through():
    from latchflow import plan
    from latchflow.model import ActionTask, Closing, InvocationStatus, Manifest, Outcome, PlannedRun, PlannedStep
    from latchflow.names import CLOSE_EVENT, EXECUTE_ACTION, MANIFEST_QUERY, TRIGGER_EVENT_WORKFLOW
    from latchflow.temporal import policies


@workflow.defn(name=TRIGGER_EVENT_WORKFLOW, failure_exception_types=policies.FAILURE_TYPES)
class TriggerEventWorkflow:
    """Carries out the manifest of one event.

    Started by dispatch or its drainer with the id ``event:{eventId}``; reuse of the id is rejected, so an event runs
    once. Ends with the event's status as its result, also when the event failed; a workflow that fails itself or is
    terminated is closed by the closer.
    """

    def __init__(self) -> None:
        self._manifest: Manifest | None = None
        self._outcomes: dict[UUID, Outcome] = {}
        self._is_cancelled = False

    @workflow.query(name=MANIFEST_QUERY)
    def manifest(self) -> Manifest | None:
        """What this event owes."""
        return self._manifest

    @workflow.run
    async def run(self, manifest: Manifest) -> str:
        """Carry out every run, then close the event.

        Returns:
            The event's status.
        """
        self._manifest = manifest
        runs = [asyncio.create_task(self._carry_out(manifest, run)) for run in manifest.runs]
        try:
            await asyncio.gather(*runs)
        except asyncio.CancelledError:
            self._is_cancelled = True
            for task in runs:
                task.cancel()
            await asyncio.gather(*runs, return_exceptions=True)
        # Their outputs are in Postgres already.
        outcomes = tuple(replace(outcome, output=None) for outcome in self._outcomes.values())
        closing = Closing(event_id=manifest.event_id, outcomes=outcomes, is_cancelled=self._is_cancelled)
        return await _until_done(asyncio.create_task(_close(closing)))

    async def _carry_out(self, manifest: Manifest, run: PlannedRun) -> None:
        while not self._is_cancelled and (group := plan.next_steps(run, self._outcomes)):
            for outcome in await asyncio.gather(*(_invoke(manifest, run, step) for step in group)):
                self._outcomes[outcome.invocation_id] = outcome
        for outcome in plan.skips(run, self._outcomes):
            self._outcomes[outcome.invocation_id] = outcome


async def _invoke(manifest: Manifest, run: PlannedRun, step: PlannedStep) -> Outcome:
    task = ActionTask(
        event_id=manifest.event_id,
        trigger_id=manifest.trigger_id,
        trigger_name=manifest.trigger_name,
        pipeline_id=run.pipeline_id,
        pipeline_name=run.pipeline_name,
        run_id=run.run_id,
        step=step,
    )
    try:
        outcome: Outcome = await workflow.execute_activity(
            EXECUTE_ACTION,
            task,
            result_type=Outcome,
            task_queue=step.task_queue,
            activity_id=str(step.invocation_id),
            start_to_close_timeout=policies.START_TO_CLOSE,
            heartbeat_timeout=policies.HEARTBEAT_TIMEOUT,
            retry_policy=policies.retry_policy(step),
            # The action gets time to clean up, and its attempt an ending, before the event closes.
            cancellation_type=ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
            summary=f"{run.pipeline_name} / {step.name}: {step.capability_key} of {step.plugin}",
        )
    except ActivityError as error:
        return _outcome_of(step, error)
    return outcome


def _outcome_of(step: PlannedStep, error: ActivityError) -> Outcome:
    if is_cancelled_exception(error):
        return Outcome(invocation_id=step.invocation_id, status=InvocationStatus.CANCELLED, reason="cancelled")
    cause = error.cause
    status = InvocationStatus.FAILED
    if isinstance(cause, ApplicationError) and cause.details:
        status = InvocationStatus(cause.details[0])  # execute_action says which status it recorded
    return Outcome(invocation_id=step.invocation_id, status=status, reason=str(cause or error))


async def _until_done(closing: asyncio.Task[str]) -> str:
    """A request to cancel that comes now must not keep the event from being closed."""
    while True:
        try:
            return await asyncio.shield(closing)
        except asyncio.CancelledError:
            if closing.cancelled():
                raise


async def _close(closing: Closing) -> str:
    # Local: it only writes to Postgres, and a regular activity would wait for a slot that actions hold.
    status: str = await workflow.execute_local_activity(
        CLOSE_EVENT,
        closing,
        result_type=str,
        start_to_close_timeout=policies.BOOKKEEPING_TIMEOUT,
        retry_policy=policies.BOOKKEEPING_RETRY,
    )
    return status

"""The durable way of one event: its runs side by side, their steps in order, then the closing."""

import asyncio
from dataclasses import replace
from uuid import UUID

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from latchflow import plan
    from latchflow.model import Closing, Manifest, PlannedRun, RunTask
    from latchflow.names import CANCEL_RUN_SIGNAL, CLOSE_EVENT, MANIFEST_QUERY, TRIGGER_EVENT_WORKFLOW
    from latchflow.temporal import policies, search

from workflows.bookkeeping import record, until_done
from workflows.progress import Progress
from workflows.runs import carry_out, close_run, in_a_child


@workflow.defn(name=TRIGGER_EVENT_WORKFLOW, failure_exception_types=policies.FAILURE_TYPES)
class TriggerEventWorkflow:
    """Carries out the manifest of one event.

    Started by dispatch or its drainer with the id ``event:{eventId}``; reuse of the id is rejected, so an event runs
    once. Ends with the event's status as its result, also when the event failed; a workflow that fails itself or is
    terminated is closed by the closer.
    """

    def __init__(self) -> None:
        self._manifest: Manifest | None = None
        self._progress = Progress()
        self._runs: dict[UUID, asyncio.Task[None]] = {}
        self._unwanted: set[UUID] = set()
        self._is_cancelled = False

    @workflow.query(name=MANIFEST_QUERY)
    def manifest(self) -> Manifest | None:
        """What this event owes."""
        return self._manifest

    @workflow.signal(name=CANCEL_RUN_SIGNAL)
    def cancel_run(self, run_id: UUID) -> None:
        """Cancel one run; the others go on. Nothing happens when it is over."""
        self._unwanted.add(run_id)
        if run_id in self._runs:
            self._runs[run_id].cancel()

    @workflow.run
    async def run(self, manifest: Manifest) -> str:
        """Carry out every run, then close the event.

        Returns:
            The event's status.
        """
        self._manifest = manifest
        self._progress = Progress(manifest.runs, is_divided=manifest.is_divided)
        self._progress.show()
        self._runs = {run.run_id: asyncio.create_task(self._carry_out(manifest, run)) for run in manifest.runs}
        try:
            await asyncio.gather(*self._runs.values())
        except asyncio.CancelledError:
            self._is_cancelled = True
            for task in self._runs.values():
                task.cancel()
            await asyncio.gather(*self._runs.values(), return_exceptions=True)
        # Their outputs are in Postgres already.
        outcomes = tuple(replace(outcome, output=None) for outcome in self._progress.outcomes.values())
        closing = Closing(event_id=manifest.event_id, outcomes=outcomes, is_cancelled=self._is_cancelled)
        status = await until_done(asyncio.create_task(record(CLOSE_EVENT, closing, str)))
        # Only what it began with: Temporal fails every task of a workflow that sets an attribute it does not know.
        if workflow.info().typed_search_attributes.get(search.STATUS) is not None:
            workflow.upsert_search_attributes([search.STATUS.value_set(status)])
        return status

    async def _carry_out(self, manifest: Manifest, run: PlannedRun) -> None:
        self._progress.end(*plan.outcomes_kept(run).values())
        task = RunTask(
            event_id=manifest.event_id, trigger_id=manifest.trigger_id, trigger_name=manifest.trigger_name, run=run
        )
        try:
            if run.run_id in self._unwanted:
                raise asyncio.CancelledError
            await (in_a_child(task, self._progress) if manifest.is_divided else carry_out(task, self._progress))
        except asyncio.CancelledError:
            self._progress.cancel(run)
            if run.run_id not in self._unwanted:
                raise
            await until_done(asyncio.create_task(close_run(task, self._progress.outcomes, is_cancelled=True)))

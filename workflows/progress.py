"""How far runs are, as the Temporal Web UI shows it beside the workflow."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from latchflow.model import InvocationStatus, Outcome, PlannedRun
    from latchflow.run_report import report


class Progress:
    """What has begun and ended of some runs.

    Current details are no command: they stand in no history, and are answered with a query.

    Attributes:
        outcomes: What ended, by invocation id.
    """

    def __init__(self, runs: Sequence[PlannedRun] = (), *, is_divided: bool = False) -> None:
        self.outcomes: dict[UUID, Outcome] = {}
        self._runs = runs
        self._begun: set[UUID] = set()
        self._cancelled: dict[UUID, Outcome] = {}
        self._elsewhere: dict[UUID, str] | None = {} if is_divided else None
        self._is_due = False

    def begin(self, invocation_id: UUID) -> None:
        """An invocation has begun."""
        self._begun.add(invocation_id)
        self.show()

    def end(self, *outcomes: Outcome) -> None:
        """Invocations have ended."""
        self.outcomes.update((outcome.invocation_id, outcome) for outcome in outcomes)
        if outcomes:
            self.show()

    def stand(self, run_id: UUID, status: str) -> None:
        """How a run stands that has a workflow of its own."""
        if self._elsewhere is not None:
            self._elsewhere[run_id] = status
            self.show()

    def cancel(self, run: PlannedRun) -> None:
        """A run was cancelled: what of it has not ended never will. Only shown; what it ends as is the record's."""
        for step in run.every_step:
            key = step.invocation_id
            self._cancelled[key] = Outcome(invocation_id=key, status=InvocationStatus.CANCELLED)
        self.show()

    def show(self) -> None:
        """Show it, once for all that happens in this moment."""
        if not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_soon(self._show)

    def _show(self) -> None:
        self._is_due = False
        known = {**self._cancelled, **self.outcomes}
        workflow.set_current_details(report(self._runs, known, self._begun, self._elsewhere))

"""Which invocations wait for nothing but a free worker: their turn has come, and no attempt has begun."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from latchflow import plan
from latchflow.model import InvocationStatus, Outcome, PlannedRun, PlannedStep


def short_of_workers(run: PlannedRun, invocations: Sequence[Mapping[str, Any]]) -> Collection[UUID]:
    """The pending invocations of a run's first open group that a worker has to take.

    Args:
        run: As the event's manifest has it.
        invocations: Its rows: ``id``, ``step_name``, ``index``, ``status`` and ``is_partial``.
    """
    outcomes = plan.outcomes_kept(run)
    for row in invocations:
        status = InvocationStatus(row["status"])
        if row["index"] is None and status.is_terminal:
            outcomes[row["id"]] = Outcome(invocation_id=row["id"], status=status, is_partial=row["is_partial"])
    due = {step.invocation_id for step in _due(run, outcomes, invocations)}
    return {row["id"] for row in invocations if row["id"] in due and row["status"] == InvocationStatus.PENDING}


def _due(run: PlannedRun, outcomes: plan.Outcomes, invocations: Sequence[Mapping[str, Any]]) -> Iterator[PlannedStep]:
    for step in plan.next_steps(run, outcomes):
        if step.kind != "action" or step.is_inline:
            continue  # they take no slot of a worker
        if not step.is_for_each:
            yield step
            continue
        left = sorted(
            row["index"]
            for row in invocations
            if row["step_name"] == step.name
            and row["index"] is not None
            and not InvocationStatus(row["status"]).is_terminal
        )
        yield from (plan.item_of(step, index) for index in left[: step.max_parallel])

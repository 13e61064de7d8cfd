"""Pure decisions: which steps are next, and what status follows. No await, no clock, no logger."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from uuid import UUID

from latchflow.model import EventStatus, InvocationStatus, Outcome, PlannedRun, PlannedStep, RunStatus

PREVIOUS_FAILED = "previous_failed"

Outcomes = Mapping[UUID, Outcome]
"""What ended so far, by invocation id."""


def next_steps(run: PlannedRun, outcomes: Outcomes) -> tuple[PlannedStep, ...]:
    """The steps to start together now: the first group of equal ``sort_order`` that has not ended.

    Steps that will not run (disabled, or after a failed ``stop`` step) are never in it; see `skips`.

    Returns:
        Nothing when the run is over.
    """
    settled = {**outcomes, **{outcome.invocation_id: outcome for outcome in skips(run, outcomes)}}
    for _, group in groupby(_in_order(run), key=lambda step: step.sort_order):
        waiting = tuple(step for step in group if step.invocation_id not in settled)
        if waiting:
            return waiting
    return ()


def skips(run: PlannedRun, outcomes: Outcomes) -> tuple[Outcome, ...]:
    """The steps without an outcome that will never run, and why."""
    broken_at = min((step.sort_order for step in run.steps if _has_stopped(step, outcomes)), default=None)
    found = []
    for step in _in_order(run):
        if step.invocation_id in outcomes:
            continue
        if broken_at is not None and step.sort_order > broken_at:
            found.append(_skip(step, PREVIOUS_FAILED))
        elif step.skip_reason is not None:
            found.append(_skip(step, step.skip_reason))
    return tuple(found)


def run_status(run: PlannedRun, outcomes: Outcomes) -> RunStatus:
    """The status of a run whose invocations have all ended; a missing outcome counts as failed."""
    if any(_status(step, outcomes) is InvocationStatus.CANCELLED for step in run.steps):
        return RunStatus.CANCELLED
    failed = [step for step in run.steps if not _status(step, outcomes).is_success]
    if any(step.on_failure == "stop" for step in failed):
        return RunStatus.FAILED
    return RunStatus.PARTIAL_FAILURE if failed else RunStatus.SUCCEEDED


def event_status(runs: Iterable[RunStatus]) -> EventStatus:
    """The status of an event whose runs have all ended: theirs when they agree, else a partial failure."""
    distinct = set(runs)
    if not distinct:
        return EventStatus.IGNORED
    if len(distinct) == 1:
        return EventStatus(distinct.pop())
    return EventStatus.PARTIAL_FAILURE


def _in_order(run: PlannedRun) -> list[PlannedStep]:
    return sorted(run.steps, key=lambda step: step.sort_order)


def _status(step: PlannedStep, outcomes: Outcomes) -> InvocationStatus:
    outcome = outcomes.get(step.invocation_id)
    return InvocationStatus.FAILED if outcome is None else outcome.status


def _has_stopped(step: PlannedStep, outcomes: Outcomes) -> bool:
    outcome = outcomes.get(step.invocation_id)
    return outcome is not None and not outcome.status.is_success and step.on_failure == "stop"


def _skip(step: PlannedStep, reason: str) -> Outcome:
    return Outcome(invocation_id=step.invocation_id, status=InvocationStatus.SKIPPED, reason=reason)

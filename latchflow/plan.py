"""Pure decisions: which steps are next, and what status follows. No await, no clock, no logger."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID, uuid5

from latchflow.model import (
    EventStatus,
    InvocationStatus,
    ItemCounts,
    Manifest,
    Outcome,
    Phase,
    PipelineInForce,
    PlannedRun,
    PlannedStep,
    RetryPolicy,
    RunStatus,
    StepInForce,
)
from latchflow.names import plugin_task_queue
from latchflow.waits import LONGEST_WAIT

PREVIOUS_FAILED = "previous_failed"
STEP_DISABLED = "step_disabled"
ACTION_DISABLED = "action_disabled"
NOT_NEEDED = "run_did_not_fail"

MOST_RUNS_UNDIVIDED = 4
MOST_STEPS_UNDIVIDED = 100
"""An event that owes more than either has a child workflow for each run."""

ITEMS_INLINE = 10
"""Items of a ``forEach`` that an undivided event's own workflow carries out: its history holds 100 steps of so many."""

ITEMS_AT_ONCE = 100
"""Of more, how many one run of their own workflow carries out before it goes on as new."""

MAX_LOST_ATTEMPTS = 6
"""An invocation that lost this many workers ends FAILED: it may be what kills them."""

SHORTEST_WAIT = timedelta(milliseconds=100)
"""Between a `Pending` and its ``resume``; Temporal takes a wait of nothing for none asked for."""

Outcomes = Mapping[UUID, Outcome]
"""What ended so far, by invocation id."""


def manifest(
    event_id: UUID,
    trigger_id: UUID,
    trigger_name: str,
    pipelines: Sequence[PipelineInForce],
    dedicated: Collection[str] = (),
) -> Manifest:
    """What an event owes. Its run and invocation ids derive from the event's, so that a repeat gives the same ones.

    Args:
        event_id: The event.
        trigger_id: Its trigger.
        trigger_name: As it is called now.
        pipelines: Those in force.
        dedicated: Names of the plugins that have workers of their own.
    """
    runs = tuple(_planned_run(event_id, pipeline, dedicated) for pipeline in pipelines)
    steps = sum(len(run.every_step) for run in runs)
    return Manifest(
        event_id=event_id,
        trigger_id=trigger_id,
        trigger_name=trigger_name,
        runs=runs,
        is_divided=len(runs) > MOST_RUNS_UNDIVIDED or steps > MOST_STEPS_UNDIVIDED,
    )


def outcomes_kept(run: PlannedRun) -> dict[UUID, Outcome]:
    """What is known before anything of a run was executed: the steps that finished in the event it repeats."""
    return {
        step.invocation_id: Outcome(invocation_id=step.invocation_id, status=InvocationStatus.SUCCEEDED)
        for step in run.every_step
        if step.is_kept
    }


def next_steps(run: PlannedRun, outcomes: Outcomes) -> tuple[PlannedStep, ...]:
    """The steps to start together now: the first group of equal ``sort_order`` that has not ended.

    Steps that will not run (disabled, or after a failed ``stop`` step) are never in it; see `skips`. When all others
    are over and the run failed, those for its failure follow.

    Returns:
        Nothing when the run is over.
    """
    settled = _settled(run, outcomes)
    return _first_open_group(run.steps, settled) or _first_open_group(run.failure_steps, settled)


def skips(run: PlannedRun, outcomes: Outcomes) -> tuple[Outcome, ...]:
    """The steps without an outcome that will never run, and why."""
    found = _skips_among(run.steps, outcomes)
    settled = {**outcomes, **{outcome.invocation_id: outcome for outcome in found}}
    if any(step.invocation_id not in settled for step in run.steps):
        return tuple(found)  # whether it fails is not known yet
    if run_status(run, settled) is RunStatus.FAILED:
        return (*found, *_skips_among(run.failure_steps, outcomes))
    not_needed = (step for step in run.failure_steps if step.invocation_id not in outcomes)
    return (*found, *(_skip(step, NOT_NEEDED) for step in not_needed))


def endings(run: PlannedRun, known: Outcomes, rest: Outcome) -> dict[UUID, Outcome]:
    """How every step of a run ended that is over: what is known, what follows from it, and for what is left, the rest.

    Args:
        run: The run.
        known: What was recorded, or told by the workflow.
        rest: Whose status and reason the others get: FAILED, or CANCELLED when somebody cancelled.
    """
    ended = {step.invocation_id: known[step.invocation_id] for step in run.every_step if step.invocation_id in known}
    for steps in (run.steps, run.failure_steps):
        for outcome in skips(run, ended):
            # What a cancellation kept from running was cancelled, too; only disabled steps would not have run anyway.
            if rest.status is not InvocationStatus.CANCELLED or outcome.reason != PREVIOUS_FAILED:
                ended[outcome.invocation_id] = outcome
        for step in steps:
            key = step.invocation_id
            ended.setdefault(key, Outcome(invocation_id=key, status=rest.status, reason=rest.reason))
    return ended


def run_status(run: PlannedRun, outcomes: Outcomes) -> RunStatus:
    """The status of a run whose steps have all ended; a missing outcome counts as failed.

    What its steps for a failure did changes nothing: the run has failed.
    """
    if any(_status(step, outcomes) is InvocationStatus.CANCELLED for step in run.steps):
        return RunStatus.CANCELLED
    failed = [step for step in run.steps if not _status(step, outcomes).is_success]
    if any(step.on_failure == "stop" and not _is_partial(step, outcomes) for step in failed):
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


def item_of(step: PlannedStep, index: int) -> PlannedStep:
    """The invocation of one item of a ``forEach`` step."""
    return replace(step, invocation_id=item_invocation_id(step.invocation_id, index), is_for_each=False)


def item_invocation_id(invocation_id: UUID, index: int) -> UUID:
    """The id of an item's invocation: the same whenever it is asked for."""
    return uuid5(invocation_id, str(index))


def count_items(outcomes: Iterable[Outcome], before: ItemCounts) -> ItemCounts:
    """The counts with these items added."""
    found = [outcome.status for outcome in outcomes]
    succeeded, skipped = found.count(InvocationStatus.SUCCEEDED), found.count(InvocationStatus.SKIPPED)
    cancelled = found.count(InvocationStatus.CANCELLED)
    return ItemCounts(
        succeeded=before.succeeded + succeeded,
        skipped=before.skipped + skipped,
        cancelled=before.cancelled + cancelled,
        failed=before.failed + len(found) - succeeded - skipped - cancelled,
    )


def outcome_of_items(step: PlannedStep, counts: ItemCounts) -> Outcome:
    """How a ``forEach`` step ended whose items have all ended."""
    fine = counts.succeeded + counts.skipped
    total = fine + counts.failed + counts.cancelled
    if counts.cancelled:
        status, reason = InvocationStatus.CANCELLED, f"{counts.cancelled} of {total} items were cancelled."
    elif counts.failed:
        status, reason = InvocationStatus.FAILED, f"{counts.failed} of {total} items failed."
    else:
        return Outcome(invocation_id=step.invocation_id, status=InvocationStatus.SUCCEEDED)
    return Outcome(invocation_id=step.invocation_id, status=status, reason=reason, is_partial=fine > 0)


def failure_phase(*, is_retryable: bool, is_timeout: bool, counted_before: int, policy: RetryPolicy) -> Phase:
    """The ending of an attempt that failed.

    Args:
        is_retryable: Whether another attempt may do better.
        is_timeout: The attempt's own invoker ended it for taking too long; such an attempt counts.
        counted_before: Earlier attempts of the invocation that count.
        policy: Whose ``max_attempts`` ends the series.
    """
    if is_timeout:
        return Phase.TIMED_OUT
    if not is_retryable:
        return Phase.FAILED_PERMANENT
    return Phase.FAILED if counted_before + 1 >= policy.max_attempts else Phase.RETRYING


def invocation_status(phase: Phase, *, counted_before: int, policy: RetryPolicy) -> InvocationStatus:
    """The status of an invocation after an attempt that ended with this phase."""
    if phase in (Phase.TIMED_OUT, Phase.RETRYING) and counted_before + 1 < policy.max_attempts:
        return InvocationStatus.RETRYING
    return InvocationStatus(phase)


def backoff_seconds(attempt: int, policy: RetryPolicy) -> float:
    """How long Temporal waits after its attempt with this number (from 1), unless the plugin asked for another time."""
    exponent = min(attempt - 1, 64)  # beyond that every policy has reached its cap
    interval = policy.initial_interval_seconds * policy.backoff_coefficient**exponent
    return min(interval, max(policy.maximum_interval_seconds, policy.initial_interval_seconds))


def waiting_time(now: datetime, check_after: timedelta, deadline: datetime | None) -> timedelta | None:
    """How long an invocation that answered `Pending` waits before it is looked at again.

    Returns:
        Not longer than to its deadline; None when that has come, and the invocation gives up.
    """
    left = LONGEST_WAIT if deadline is None else deadline - now
    if left <= timedelta(0):
        return None
    return max(SHORTEST_WAIT, min(check_after, left, LONGEST_WAIT))


def _planned_run(event_id: UUID, pipeline: PipelineInForce, dedicated: Collection[str]) -> PlannedRun:
    run_id = uuid5(event_id, str(pipeline.id))
    planned = [(step.is_failure_step, _planned(run_id, step, dedicated)) for step in pipeline.steps]
    return PlannedRun(
        run_id=run_id,
        pipeline_id=pipeline.id,
        pipeline_name=pipeline.name,
        pipeline_version=pipeline.version,
        steps=tuple(step for is_failure_step, step in planned if not is_failure_step),
        failure_steps=tuple(step for is_failure_step, step in planned if is_failure_step),
    )


def _planned(run_id: UUID, step: StepInForce, dedicated: Collection[str]) -> PlannedStep:
    is_dedicated = step.plugin is not None and step.plugin in dedicated
    reason = None
    if not step.is_enabled:
        reason = STEP_DISABLED
    elif not step.is_action_enabled:
        reason = ACTION_DISABLED
    policy: dict[str, Any] = {**(step.action_retry_policy or {}), **(step.retry_policy or {})}
    return PlannedStep(
        invocation_id=uuid5(run_id, str(step.id)),
        step_id=step.id,
        name=step.name,
        sort_order=step.sort_order,
        action_id=step.action_id,
        action_version=step.action_version,
        action_name=step.action_name or "",
        plugin=step.plugin or "",
        capability_key=step.capability_key or "",
        kind=step.kind,
        on_failure=step.on_failure,
        is_inline=step.is_inline and not is_dedicated,
        timeout_seconds=step.timeout_seconds or step.action_timeout_seconds or PlannedStep.timeout_seconds,
        retry_policy=RetryPolicy(**policy),
        skip_reason=reason,
        task_queue=plugin_task_queue(step.plugin) if step.plugin is not None and is_dedicated else None,
        is_for_each=step.for_each is not None,
        max_parallel=step.max_parallel or PlannedStep.max_parallel,
    )


def _settled(run: PlannedRun, outcomes: Outcomes) -> dict[UUID, Outcome]:
    return {**outcomes, **{outcome.invocation_id: outcome for outcome in skips(run, outcomes)}}


def _first_open_group(steps: Sequence[PlannedStep], settled: Outcomes) -> tuple[PlannedStep, ...]:
    for _, group in groupby(_in_order(steps), key=lambda step: step.sort_order):
        waiting = tuple(step for step in group if step.invocation_id not in settled)
        if waiting:
            return waiting
    return ()


def _skips_among(steps: Sequence[PlannedStep], outcomes: Outcomes) -> list[Outcome]:
    broken_at = min((step.sort_order for step in steps if _has_stopped(step, outcomes)), default=None)
    found = []
    for step in _in_order(steps):
        if step.invocation_id in outcomes:
            continue
        if broken_at is not None and step.sort_order > broken_at:
            found.append(_skip(step, PREVIOUS_FAILED))
        elif step.skip_reason is not None:
            found.append(_skip(step, step.skip_reason))
    return found


def _in_order(steps: Sequence[PlannedStep]) -> list[PlannedStep]:
    return sorted(steps, key=lambda step: step.sort_order)


def _status(step: PlannedStep, outcomes: Outcomes) -> InvocationStatus:
    outcome = outcomes.get(step.invocation_id)
    return InvocationStatus.FAILED if outcome is None else outcome.status


def _is_partial(step: PlannedStep, outcomes: Outcomes) -> bool:
    outcome = outcomes.get(step.invocation_id)
    return outcome is not None and outcome.is_partial


def _has_stopped(step: PlannedStep, outcomes: Outcomes) -> bool:
    outcome = outcomes.get(step.invocation_id)
    return outcome is not None and not outcome.status.is_success and step.on_failure == "stop"


def _skip(step: PlannedStep, reason: str) -> Outcome:
    return Outcome(invocation_id=step.invocation_id, status=InvocationStatus.SKIPPED, reason=reason)

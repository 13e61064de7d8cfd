"""Pure decisions: which steps are next, and what status follows. No await, no clock, no logger."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID, uuid5

from latchflow.model import (
    EventStatus,
    InvocationStatus,
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

PREVIOUS_FAILED = "previous_failed"
STEP_DISABLED = "step_disabled"
ACTION_DISABLED = "action_disabled"

MAX_LOST_ATTEMPTS = 6
"""An invocation that lost this many workers ends FAILED: it may be what kills them."""

SHORTEST_WAIT = timedelta(milliseconds=100)
"""Between a `Pending` and its ``resume``; Temporal takes a wait of nothing for none asked for."""

LONGEST_WAIT = timedelta(days=365)

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
    runs = []
    for pipeline in pipelines:
        run_id = uuid5(event_id, str(pipeline.id))
        runs.append(
            PlannedRun(
                run_id=run_id,
                pipeline_id=pipeline.id,
                pipeline_name=pipeline.name,
                pipeline_version=pipeline.version,
                steps=tuple(_planned(run_id, step, dedicated) for step in pipeline.steps),
            )
        )
    return Manifest(event_id=event_id, trigger_id=trigger_id, trigger_name=trigger_name, runs=tuple(runs))


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


def _planned(run_id: UUID, step: StepInForce, dedicated: Collection[str]) -> PlannedStep:
    is_dedicated = step.plugin in dedicated
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
        action_name=step.action_name,
        plugin=step.plugin,
        capability_key=step.capability_key,
        kind=step.kind,
        on_failure=step.on_failure,
        is_inline=step.is_inline and not is_dedicated,
        timeout_seconds=step.timeout_seconds or step.action_timeout_seconds or PlannedStep.timeout_seconds,
        retry_policy=RetryPolicy(**policy),
        skip_reason=reason,
        task_queue=plugin_task_queue(step.plugin) if is_dedicated else None,
    )


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

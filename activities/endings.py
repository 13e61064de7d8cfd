"""What an attempt's result means: the row to write, and what Temporal is told afterwards."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from temporalio.exceptions import ApplicationError

from latchflow import plan
from latchflow.crypto import Keyring
from latchflow.model import InvocationStatus, Outcome, Phase, PlannedStep
from latchflow.names import ATTEMPTS_USED_UP, CLOSED, SUPERSEDED
from latchflow.runtime.invoking.invoker import Failure, Result, Success, Waiting
from latchflow.store import places
from latchflow.store.attempts import Claimed, Ending, Task

INLINE_BYTES = 32 * 1024
"""Larger outputs stay in Postgres; Temporal's history gets a reference."""

LONGEST_RETRY = timedelta(hours=24)

CLOCKS_MAY_DIFFER = timedelta(seconds=2)
"""Those of two workers: nobody is turned down for being early by less."""


def ending_of_success(success: Success, row: Task, keyring: Keyring, progress: Any) -> Ending:
    """The ending of an attempt that returned."""
    place = places.invocation_output(row.invocation_id)
    return Ending(
        phase=Phase.SUCCEEDED,
        status=InvocationStatus.SUCCEEDED,
        output_sealed=keyring.seal(success.output_json, place),
        progress=progress,
    )


def ending_of_waiting(
    waiting: Waiting, row: Task, keyring: Keyring, *, calls_made: Mapping[str, int], progress: Any
) -> Ending:
    """The ending of an attempt that answered `Pending`: the invocation waits, or gives up when its deadline has come.

    Args:
        waiting: The answer.
        row: The invocation.
        keyring: Seals the state.
        calls_made: By service, how many calls with an effect were made up to here; ``resume`` counts on.
        progress: What the action reported last.
    """
    now = datetime.now(UTC)
    wait = plan.waiting_time(now, waiting.check_after, waiting.deadline)
    if wait is None:
        return ending_of_deadline(waiting.deadline)
    pending = {"state": waiting.state, "calls": calls_made}
    return Ending(
        phase=Phase.WAITING,
        status=InvocationStatus.WAITING,
        progress=progress,
        next_attempt_at=now + wait,
        pending_sealed=keyring.seal_json(pending, places.invocation_pending(row.invocation_id)),
        pending_deadline=waiting.deadline,
        waiting_for="time",
    )


def ending_of_deadline(deadline: datetime | None) -> Ending:
    """The ending of an invocation that waited until its deadline."""
    at = f" {deadline.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if deadline else ""
    message = f"What the action waited for had not come by its deadline{at}."
    return Ending(
        phase=Phase.TIMED_OUT,
        status=InvocationStatus.TIMED_OUT,
        error={"type": "DeadlinePassed", "message": message},
    )


def ending_of_failure(
    failure: Failure,
    step: PlannedStep,
    claimed: Claimed,
    *,
    delay: timedelta | None,
    temporal_attempt: int,
    progress: Any,
) -> Ending:
    """The ending of an attempt that failed, and whether another follows, after a `retry_delay`."""
    policy = step.retry_policy
    if not failure.is_counted:
        phase, status = Phase.RETRYING, InvocationStatus.RETRYING
    else:
        phase = plan.failure_phase(
            is_retryable=failure.is_retryable,
            is_timeout=failure.is_timeout,
            counted_before=claimed.counted_before,
            policy=policy,
        )
        status = plan.invocation_status(phase, counted_before=claimed.counted_before, policy=policy)
    next_attempt_at = None
    if not status.is_terminal:
        wait = timedelta(seconds=plan.backoff_seconds(temporal_attempt, policy))
        next_attempt_at = datetime.now(UTC) + (wait if delay is None else delay)
    return Ending(
        phase=phase,
        status=status,
        error={"type": failure.error_type, "message": failure.message},
        progress=progress,
        next_attempt_at=next_attempt_at,
        is_counted=failure.is_counted,
    )


def held_up(result: Result, quiet_at: datetime | None) -> Result:
    """Let a failure not count whose attempt met a lost one that may still act, and retry when that one is silent.

    Until then no attempt could do better. That time comes, so such attempts have an end.
    """
    if quiet_at is None or not isinstance(result, Failure) or not result.is_retryable or result.is_timeout:
        return result
    return replace(result, is_counted=False, retry_after=max(quiet_at - datetime.now(UTC), timedelta()))


def retry_delay(failure: Failure, step: PlannedStep, claimed: Claimed) -> timedelta | None:
    """The wait before the next attempt; None leaves it to Temporal's policy.

    It is what the action asked for, a day at most. An invocation that has waited tells Temporal always: its count of
    attempts has grown by waiting, and a deadline may come first.
    """
    asked = failure.retry_after
    if asked is not None:
        asked = max(plan.SHORTEST_WAIT, min(asked, LONGEST_RETRY))
    if claimed.pending_sealed is None:
        return asked
    if asked is None:
        asked = timedelta(seconds=plan.backoff_seconds(claimed.counted_before + 1, step.retry_policy))
    left = plan.waiting_time(datetime.now(UTC), asked, claimed.pending_deadline)
    return plan.SHORTEST_WAIT if left is None else left


def outcome_of_waiting(row: Task, ending: Ending) -> Outcome:
    """What Temporal is told of an invocation that waits: the workflow keeps the time, and no worker."""
    return _waiting(row, ending.next_attempt_at)


def still_waiting(row: Task) -> Outcome | None:
    """Turn an attempt down that comes too early.

    It was woken for nothing, or a worker died between recording a wait and telling Temporal of it.
    """
    if row.status is InvocationStatus.WAITING and row.next_attempt_at is not None and not row.is_called_back:
        left = row.next_attempt_at - datetime.now(UTC)
        if left > CLOCKS_MAY_DIFFER:
            return _waiting(row, row.next_attempt_at)
    return None


def _waiting(row: Task, until: datetime | None) -> Outcome:
    return Outcome(invocation_id=row.invocation_id, status=InvocationStatus.WAITING, wait_until=until)


def give_up(ending: Ending) -> NoReturn:
    """Tell Temporal that an invocation ended at its deadline."""
    error = ending.error or {}
    raise ApplicationError(error.get("message", ""), ending.status.value, type=error.get("type"), non_retryable=True)


def fail(failure: Failure, ending: Ending, delay: timedelta | None) -> NoReturn:
    """Tell Temporal how an attempt failed: to try again after this delay, or that the series is over."""
    if not ending.status.is_terminal:
        raise ApplicationError(failure.message, type=failure.error_type, next_retry_delay=delay)
    error_type = failure.error_type if ending.phase is Phase.FAILED_PERMANENT else ATTEMPTS_USED_UP
    raise ApplicationError(failure.message, ending.status.value, type=error_type, non_retryable=True)


def outcome_of_success(row: Task, success: Success) -> Outcome:
    """What a success tells Temporal: a small output inline, so that the history can be read; else a reference.

    Items are too many for that: of them it is a reference always.
    """
    output, output_json = success.output, success.output_json
    if len(output_json) > INLINE_BYTES or row.item_index is not None:
        output = {
            "ref": f"invocations/{row.invocation_id}/output",
            "sha256": hashlib.sha256(output_json).hexdigest(),
            "size": len(output_json),
        }
    return Outcome(invocation_id=row.invocation_id, status=InvocationStatus.SUCCEEDED, output=output)


def settled(row: Task, keyring: Keyring) -> Outcome:
    """What to tell Temporal of an invocation that another attempt, or the closer, has ended or holds.

    A worker may die between recording an ending and reporting it; the next attempt adopts what was recorded.
    """
    if row.ended_at is None:
        raise ApplicationError("A later attempt of this invocation has begun.", type=SUPERSEDED)
    if row.status is InvocationStatus.SUCCEEDED:
        place = places.invocation_output(row.invocation_id)
        output_json = keyring.open(row.output_sealed or b"", place)
        return outcome_of_success(row, Success(output=json.loads(output_json), output_json=output_json))
    if row.status is InvocationStatus.SKIPPED:
        return Outcome(invocation_id=row.invocation_id, status=row.status, reason=row.skipped_reason)
    message = (row.error or {}).get("message") or "The invocation was closed."
    raise ApplicationError(message, row.status.value, type=CLOSED, non_retryable=True)

"""What an attempt's result means: the row to write, and what Temporal is told afterwards."""

import hashlib
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from temporalio.exceptions import ApplicationError

from latchflow import plan
from latchflow.crypto import Keyring
from latchflow.model import InvocationStatus, Outcome, Phase, PlannedStep
from latchflow.names import ATTEMPTS_USED_UP, CLOSED, SUPERSEDED
from latchflow.runtime.invoker import Failure, Success
from latchflow.store import places
from latchflow.store.attempts import Claimed, Ending, Task

INLINE_BYTES = 32 * 1024
"""Larger outputs stay in Postgres; Temporal's history gets a reference."""

LONGEST_RETRY = timedelta(hours=24)


def ending_of_success(success: Success, row: Task, keyring: Keyring, progress: Any) -> Ending:
    """The ending of an attempt that returned."""
    place = places.invocation_output(row.invocation_id)
    return Ending(
        phase=Phase.SUCCEEDED,
        status=InvocationStatus.SUCCEEDED,
        output_sealed=keyring.seal(success.output_json, place),
        progress=progress,
    )


def ending_of_failure(
    failure: Failure, step: PlannedStep, claimed: Claimed, *, temporal_attempt: int, progress: Any
) -> Ending:
    """The ending of an attempt that failed, and whether another follows."""
    policy = step.retry_policy
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
        next_attempt_at = datetime.now(UTC) + (retry_delay(failure) or wait)
    return Ending(
        phase=phase,
        status=status,
        error={"type": failure.error_type, "message": failure.message},
        progress=progress,
        next_attempt_at=next_attempt_at,
    )


def retry_delay(failure: Failure) -> timedelta | None:
    """The wait the action asked for, between none and a day; None leaves it to Temporal's policy."""
    if failure.retry_after is None:
        return None
    return max(timedelta(0), min(failure.retry_after, LONGEST_RETRY))


def fail(failure: Failure, ending: Ending) -> NoReturn:
    """Tell Temporal how an attempt failed: to try again, or that the series is over."""
    if not ending.status.is_terminal:
        raise ApplicationError(failure.message, type=failure.error_type, next_retry_delay=retry_delay(failure))
    error_type = failure.error_type if ending.phase is Phase.FAILED_PERMANENT else ATTEMPTS_USED_UP
    raise ApplicationError(failure.message, ending.status.value, type=error_type, non_retryable=True)


def outcome_of_success(row: Task, output: Any, output_json: bytes) -> Outcome:
    """What a success tells Temporal: a small output inline, so that the history can be read; else a reference."""
    if len(output_json) > INLINE_BYTES:
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
        return outcome_of_success(row, keyring.open_json(row.output_sealed or b"", place), output_json)
    if row.status is InvocationStatus.SKIPPED:
        return Outcome(invocation_id=row.invocation_id, status=row.status, reason=row.skipped_reason)
    message = (row.error or {}).get("message") or "The invocation was closed."
    raise ApplicationError(message, row.status.value, type=CLOSED, non_retryable=True)

"""Closing an event: every invocation gets an ending, every run and the event their status. Safe to repeat."""

from collections.abc import Mapping
from uuid import UUID

from latchflow import plan
from latchflow.model import EventStatus, InvocationStatus, Manifest, Outcome
from latchflow.store import attempts, events, invocations
from latchflow.store.database import Connection, Database


async def close_event(
    database: Database,
    event_id: UUID,
    *,
    outcomes: Mapping[UUID, Outcome],
    closed_by: str,
    reason: str | None = None,
    default: InvocationStatus = InvocationStatus.FAILED,
) -> EventStatus | None:
    """Close an event in one transaction.

    Args:
        database: Where.
        event_id: Which.
        outcomes: What the caller knows of invocations; what an attempt recorded comes before it.
        closed_by: ``workflow`` or ``closer``.
        reason: Why, when it was not the ordinary way.
        default: The status of invocations nobody knows anything of.

    Returns:
        The status written; None when the event was closed already, or is not there.

    Raises:
        UnavailableError: The database is away.
    """
    async with database.transaction() as connection:
        manifest = await events.lock_open(connection, event_id)
        if manifest is None:
            return None
        recorded = await events.recorded_endings(connection, event_id)
        endings = _endings(manifest, recorded, outcomes, Outcome(invocation_id=event_id, status=default, reason=reason))
        await _end_open(connection, endings, recorded, reason or "The event was closed.")
        statuses = [(run.run_id, plan.run_status(run, endings)) for run in manifest.runs]
        status = plan.event_status(run_status for _, run_status in statuses)
        await events.close(connection, event_id, status=status, runs=statuses, closed_by=closed_by, reason=reason)
        return status


def _endings(
    manifest: Manifest,
    recorded: Mapping[UUID, InvocationStatus],
    outcomes: Mapping[UUID, Outcome],
    default: Outcome,
) -> dict[UUID, Outcome]:
    """What an attempt recorded, then what the caller knows, then what follows from both, then the default."""
    endings = {key: Outcome(invocation_id=key, status=status) for key, status in recorded.items()}
    for key, known in outcomes.items():
        endings.setdefault(key, Outcome(invocation_id=key, status=known.status, reason=known.reason))
    for run in manifest.runs:
        for outcome in plan.skips(run, endings):
            # What a cancellation kept from running was cancelled, too; only disabled steps would not have run anyway.
            if default.status is not InvocationStatus.CANCELLED or outcome.reason != plan.PREVIOUS_FAILED:
                endings[outcome.invocation_id] = outcome
        for step in run.steps:
            key = step.invocation_id
            endings.setdefault(key, Outcome(invocation_id=key, status=default.status, reason=default.reason))
    return endings


async def _end_open(
    connection: Connection, endings: Mapping[UUID, Outcome], recorded: Mapping[UUID, InvocationStatus], reason: str
) -> None:
    still_open = [outcome for key, outcome in endings.items() if key not in recorded]
    if still_open:
        await attempts.end_open_attempts(connection, [outcome.invocation_id for outcome in still_open], reason=reason)
    for outcome in still_open:
        await invocations.end_invocation(connection, outcome)

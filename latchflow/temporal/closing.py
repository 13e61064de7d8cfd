"""Closing an event or one of its runs: every invocation gets an ending, every run its status. Safe to repeat."""

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from latchflow import plan
from latchflow.model import EventStatus, InvocationStatus, Manifest, Outcome, PlannedRun, RunStatus
from latchflow.store import attempts, events, gates, invocations, items
from latchflow.store.database import Connection, Database

Start = Callable[[Sequence[Manifest]], None]
"""Starts workflows soon; what is lost on the way is the drainer's."""


async def close_event(
    database: Database,
    event_id: UUID,
    *,
    outcomes: Mapping[UUID, Outcome],
    closed_by: str,
    reason: str | None = None,
    default: InvocationStatus = InvocationStatus.FAILED,
    start: Start | None = None,
) -> EventStatus | None:
    """Close an event, and let in what waited for its end, in one transaction.

    Args:
        database: Where.
        event_id: Which.
        outcomes: What the caller knows of invocations; what an attempt recorded comes before it.
        closed_by: ``workflow``, ``closer``, ``dispatch`` or ``operator``.
        reason: Why, when it was not the ordinary way.
        default: The status of invocations nobody knows anything of.
        start: Starts what was let in; without it, the drainer does after a few seconds.

    Returns:
        The status written; None when the event was closed already, or is not there.

    Raises:
        UnavailableError: The database is away.
    """
    released: list[Manifest] = []
    async with database.transaction() as connection:
        status = await close_event_within(
            connection,
            event_id,
            outcomes=outcomes,
            closed_by=closed_by,
            reason=reason,
            default=default,
            released=released,
        )
    if start is not None:
        start(released)
    return status


async def close_event_within(
    connection: Connection,
    event_id: UUID,
    *,
    outcomes: Mapping[UUID, Outcome],
    closed_by: str,
    reason: str | None,
    default: InvocationStatus,
    released: list[Manifest] | None = None,
) -> EventStatus | None:
    """Close an event inside a transaction, and let in what waited for its end.

    Args and result as those of `close_event`; what was let in is added to `released`, else the drainer starts it. A
    caller that has locked a row of an event before has taken the gate (`gates.hold_of_event`) even before that.
    """
    rest = Outcome(invocation_id=event_id, status=default, reason=reason)
    trigger_id = await gates.hold_of_event(connection, event_id)
    manifest = await events.lock_open(connection, event_id)
    if manifest is None:
        return None
    status = await _close(connection, manifest, outcomes, rest, closed_by=closed_by)
    if trigger_id is not None:
        let_in = await gates.release(connection, trigger_id)
        if released is not None:
            released.extend(let_in)
    return status


async def cancel_waiting(
    connection: Connection, event_id: UUID, *, closed_by: str = "dispatch", reason: str = "cancelled"
) -> bool:
    """Close an event that waits for its turn as CANCELLED: no workflow knows of it.

    Args:
        connection: Inside a transaction that has not locked a row of an event yet.
        event_id: Which.
        closed_by: Who closes it.
        reason: Why.

    Returns:
        False when it does not wait: it is closed, unknown, or its turn has come.
    """
    await gates.hold_of_event(connection, event_id)
    manifest = await events.lock_open(connection, event_id) if await gates.lock_waiting(connection, event_id) else None
    if manifest is None:
        return False
    rest = Outcome(invocation_id=event_id, status=InvocationStatus.CANCELLED, reason=reason)
    await _close(connection, manifest, {}, rest, closed_by=closed_by)
    return True


async def close_run(
    database: Database,
    event_id: UUID,
    run_id: UUID,
    *,
    outcomes: Mapping[UUID, Outcome],
    default: InvocationStatus,
    reason: str | None,
) -> None:
    """Close a run before its event, in one transaction; nothing happens when it is closed.

    Args as those of `close_event`.

    Raises:
        UnavailableError: The database is away.
    """
    async with database.transaction() as connection:
        await close_run_within(connection, event_id, run_id, outcomes=outcomes, default=default, reason=reason)


async def close_run_within(
    connection: Connection,
    event_id: UUID,
    run_id: UUID,
    *,
    outcomes: Mapping[UUID, Outcome],
    default: InvocationStatus,
    reason: str | None,
) -> None:
    """Close a run before its event, inside a transaction. Args as those of `close_event`."""
    rest = Outcome(invocation_id=run_id, status=default, reason=reason)
    run = await events.lock_run(connection, event_id, run_id)
    if run is not None:
        await _close_runs(connection, [run], outcomes, rest)


async def _close(
    connection: Connection, manifest: Manifest, outcomes: Mapping[UUID, Outcome], rest: Outcome, *, closed_by: str
) -> EventStatus:
    status = plan.event_status(await _close_runs(connection, manifest.runs, outcomes, rest))
    await events.close(connection, manifest.event_id, status=status, closed_by=closed_by, reason=rest.reason)
    return status


async def _close_runs(
    connection: Connection, runs: Sequence[PlannedRun], outcomes: Mapping[UUID, Outcome], rest: Outcome
) -> list[RunStatus]:
    recorded = await events.recorded(connection, [run.run_id for run in runs])
    statuses = []
    for run in runs:
        endings = plan.endings(run, {**outcomes, **recorded.endings}, rest)  # a record comes before what is told
        left = [outcome for key, outcome in endings.items() if key not in recorded.endings]
        open_items = recorded.open_items.get(run.run_id, [])
        reason = rest.reason or "The event was closed."
        if left or open_items:
            ids = [outcome.invocation_id for outcome in left]
            await attempts.end_open_attempts(connection, [*ids, *open_items], reason=reason)
        for outcome in left:
            await invocations.end_invocation(connection, outcome)
        if open_items:
            await items.end_open_items(connection, run.run_id, rest)
        statuses.append((run.run_id, plan.run_status(run, endings)))
    await events.close_runs(connection, statuses)
    return [status for _, status in statuses]

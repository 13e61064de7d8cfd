"""Wishes to cancel an event or a run: a row first, then Temporal is told."""

from dataclasses import dataclass
from uuid import UUID

from latchflow.model import EventStatus, RunStatus
from latchflow.store.database import Connection
from latchflow.store.visibility import Limits, visible, visible_run, visible_to


@dataclass(frozen=True, kw_only=True)
class Wish:
    """An event, or one run of it, that shall be cancelled.

    Attributes:
        run_id: None for the whole event.
        is_new: It was not wished before.
    """

    id: int
    event_id: UUID
    run_id: UUID | None
    is_new: bool = False


@dataclass(frozen=True, kw_only=True)
class LockedEvent:
    """An event under its lock.

    Attributes:
        is_started: Temporal has its workflow: it confirmed that, or a worker has taken one of its invocations.
        run_status: Of the run that was asked for; None when it is none of this event.
    """

    trigger_id: UUID
    status: EventStatus
    is_closed: bool
    is_started: bool
    run_status: RunStatus | None
    is_run_closed: bool


async def lock_event(connection: Connection, event_id: UUID, run_id: UUID | None = None) -> LockedEvent | None:
    """An event, its row locked; until Temporal has confirmed it, its invocations too, so that none is claimed."""
    row = await (
        await connection.execute(
            "SELECT trigger_id, status, closed_at, start_confirmed_at FROM events WHERE id = %s FOR UPDATE",
            (event_id,),
        )
    ).fetchone()
    if row is None:
        return None
    is_started = row["start_confirmed_at"] is not None
    if not is_started and row["closed_at"] is None:
        taken = await connection.execute(
            "SELECT attempt_number > 0 OR status <> 'PENDING' AS is_taken FROM invocations WHERE event_id = %s "
            "ORDER BY id FOR UPDATE",
            (event_id,),
        )
        rows = await taken.fetchall()
        is_started = any(found["is_taken"] for found in rows)
    run = None
    if run_id is not None:
        run = await (
            await connection.execute(
                "SELECT status, closed_at FROM runs WHERE id = %s AND event_id = %s", (run_id, event_id)
            )
        ).fetchone()
    return LockedEvent(
        trigger_id=row["trigger_id"],
        status=EventStatus(row["status"]),
        is_closed=row["closed_at"] is not None,
        is_started=is_started,
        run_status=RunStatus(run["status"]) if run else None,
        is_run_closed=run is not None and run["closed_at"] is not None,
    )


async def wish(connection: Connection, event_id: UUID, run_id: UUID | None, *, actor: str) -> Wish:
    """Keep a wish until Temporal is told of it; one that was made before stays."""
    inserted = await (
        await connection.execute(
            """
            INSERT INTO cancellations (event_id, run_id, requested_by) VALUES (%s, %s, %s)
            ON CONFLICT DO NOTHING RETURNING id
            """,
            (event_id, run_id, actor),
        )
    ).fetchone()
    row = (
        inserted
        or await (
            await connection.execute(
                "SELECT id FROM cancellations WHERE event_id = %s AND run_id IS NOT DISTINCT FROM %s",
                (event_id, run_id),
            )
        ).fetchone()
    )
    assert row is not None  # noqa: S101 - the insert met it
    return Wish(id=row["id"], event_id=event_id, run_id=run_id, is_new=inserted is not None)


async def untold(connection: Connection, *, after: int, limit: int) -> list[Wish]:
    """Wishes that Temporal does not know of yet, the oldest first, from behind the one with this id."""
    rows = await (
        await connection.execute(
            """
            SELECT id, event_id, run_id FROM cancellations WHERE told_at IS NULL AND id > %s ORDER BY id LIMIT %s
            """,
            (after, limit),
        )
    ).fetchall()
    return [Wish(**row) for row in rows]


async def mark_told(connection: Connection, wish_id: int) -> None:
    """Temporal knows, or has nothing to cancel."""
    await connection.execute("UPDATE cancellations SET told_at = now() WHERE id = %s AND told_at IS NULL", (wish_id,))


async def is_run_visible(connection: Connection, event_id: UUID, run_id: UUID, *, limits: Limits | None) -> bool:
    """Whether the event has such a run, and the caller may see it."""
    cursor = await connection.execute(
        f"""
        SELECT FROM runs r JOIN events e ON e.id = r.event_id
        WHERE e.id = %(event)s AND r.id = %(run)s AND {visible("e")} AND {visible_run("r", "e")}
        """,
        {"event": event_id, "run": run_id, **visible_to(limits)},
    )
    return await cursor.fetchone() is not None

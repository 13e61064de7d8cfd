"""Open events that nobody has heard of for a while."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from latchflow.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class SilentEvent:
    """An open event whose start was confirmed, and whose workflow may be over."""

    id: UUID


async def due(connection: Connection, *, limit: int) -> list[SilentEvent]:
    """The events to ask Temporal about now.

    An event that is due but not silent is put off until it could be; one of which nothing runs, and whose next attempt
    has a known time, until a minute after that, by an hour at most.
    """
    rows = await (
        await connection.execute(
            """
            WITH candidates AS (
                SELECT e.id, greatest(e.start_confirmed_at, max(a.started_at), max(a.ended_at), max(i.ended_at),
                                      -- While a step runs, that another waits says nothing of the workflow.
                                      CASE WHEN NOT coalesce(bool_or(i.status = 'RUNNING'), false)
                                                AND min(i.next_attempt_at) FILTER (WHERE i.ended_at IS NULL) IS NOT NULL
                                           THEN least(min(i.next_attempt_at) FILTER (WHERE i.ended_at IS NULL),
                                                      now() + interval '1 hour')
                                      END) AS last_sign
                FROM (SELECT * FROM events
                      WHERE start_confirmed_at IS NOT NULL AND closed_at IS NULL AND next_check_at <= now()
                      ORDER BY next_check_at LIMIT %(limit)s) e
                LEFT JOIN invocations i ON i.event_id = e.id LEFT JOIN attempts a ON a.invocation_id = i.id
                GROUP BY e.id, e.start_confirmed_at
            ), put_off AS (
                UPDATE events SET next_check_at = last_sign + interval '1 minute', check_interval_seconds = 60
                FROM candidates
                WHERE events.id = candidates.id AND last_sign > now() - interval '1 minute'
            )
            SELECT id FROM candidates WHERE last_sign <= now() - interval '1 minute'
            """,
            {"limit": limit},
        )
    ).fetchall()
    return [SilentEvent(id=row["id"]) for row in rows]


async def open_among(connection: Connection, event_ids: Sequence[UUID]) -> list[SilentEvent]:
    """Those of the events that are open and whose start was confirmed."""
    rows = await (
        await connection.execute(
            """
            SELECT id FROM events
            WHERE id = ANY(%s) AND start_confirmed_at IS NOT NULL AND closed_at IS NULL
            """,
            (list(event_ids),),
        )
    ).fetchall()
    return [SilentEvent(id=row["id"]) for row in rows]


async def look_later(connection: Connection, event_id: UUID, *, is_stuck: bool) -> None:
    """Its workflow goes on: look again at doubling intervals, up to an hour."""
    await connection.execute(
        """
        UPDATE events
        SET is_stuck = %s, next_check_at = now() + make_interval(secs => check_interval_seconds),
            check_interval_seconds = least(check_interval_seconds * 2, 3600)
        WHERE id = %s AND closed_at IS NULL
        """,
        (is_stuck, event_id),
    )


async def look_now(connection: Connection, event_id: UUID) -> None:
    """Somebody saw a sign that the workflow is gone: do not wait for the next turn."""
    await connection.execute(
        """
        UPDATE events SET next_check_at = now(), check_interval_seconds = 60
        WHERE id = %s AND closed_at IS NULL AND start_confirmed_at IS NOT NULL
        """,
        (event_id,),
    )

"""Invocations that no worker takes: found by the queue they wait on, marked once, counted by queue."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from latchflow.model import InvocationStatus, Manifest, Outcome
from latchflow.names import TASK_QUEUE
from latchflow.store.attempts import AUDIT_COLUMNS
from latchflow.store.database import Connection
from latchflow.store.events import MANIFEST

_MOST_QUEUES = 1000


@dataclass(frozen=True, kw_only=True)
class Unfinished:
    """An open event, as far as it is recorded.

    Attributes:
        endings: Of its steps that ended.
    """

    manifest: Manifest
    endings: dict[UUID, Outcome]


async def queues_in_use(connection: Connection) -> list[str]:
    """The task queues that open invocations may wait on, that of the workflows first."""
    cursor = await connection.execute(
        """
        SELECT DISTINCT task_queue FROM invocations WHERE ended_at IS NULL AND task_queue IS NOT NULL
        ORDER BY task_queue LIMIT %s
        """,
        (_MOST_QUEUES,),
    )
    return [TASK_QUEUE, *(row["task_queue"] for row in await cursor.fetchall())]


async def events_on(
    connection: Connection, queues: Collection[str], *, older_than: timedelta, after: UUID | None, limit: int
) -> list[UUID]:
    """Open events with an invocation that may have waited on one of these queues for that long, by id.

    Args:
        connection: Where.
        queues: Which.
        older_than: The shortest wait.
        after: Only those with a greater id.
        limit: How many at most.
    """
    cursor = await connection.execute(
        """
        SELECT e.id FROM events e
        WHERE e.start_confirmed_at <= now() - %(older)s AND e.closed_at IS NULL
          AND (%(after)s::uuid IS NULL OR e.id > %(after)s)
          AND EXISTS (SELECT FROM invocations i
                      WHERE i.event_id = e.id AND i.ended_at IS NULL AND i.kind = 'action'
                        AND i.status IN ('PENDING', 'RETRYING', 'WAITING')
                        AND coalesce(i.task_queue, %(common)s) = ANY(%(queues)s)
                        AND (i.next_attempt_at IS NULL OR i.next_attempt_at <= now() - %(older)s))
        ORDER BY e.id LIMIT %(limit)s
        """,
        {"older": older_than, "after": after, "common": TASK_QUEUE, "queues": list(queues), "limit": limit},
    )
    return [row["id"] for row in await cursor.fetchall()]


async def unfinished(connection: Connection, event_id: UUID) -> Unfinished | None:
    """An event with the endings of its steps; None when it is closed."""
    row = await (
        await connection.execute("SELECT manifest FROM events WHERE id = %s AND closed_at IS NULL", (event_id,))
    ).fetchone()
    if row is None:
        return None
    cursor = await connection.execute(
        """
        SELECT id, status, is_partial FROM invocations
        WHERE event_id = %s AND item_index IS NULL AND ended_at IS NOT NULL
        """,
        (event_id,),
    )
    endings = {
        ended["id"]: Outcome(
            invocation_id=ended["id"], status=InvocationStatus(ended["status"]), is_partial=ended["is_partial"]
        )
        for ended in await cursor.fetchall()
    }
    return Unfinished(manifest=MANIFEST.validate_python(row["manifest"]), endings=endings)


async def mark(connection: Connection, invocation_ids: Sequence[UUID], *, queue: str, waited: timedelta) -> int:
    """Mark what waits on a queue that nobody polls, with an audit entry each; nothing happens to what a worker took.

    Returns:
        How many were marked now.
    """
    cursor = await connection.execute(
        f"""
        WITH marked AS (
            UPDATE invocations i SET status = 'UNROUTED'
            WHERE id = ANY(%(ids)s) AND ended_at IS NULL AND status IN ('PENDING', 'RETRYING', 'WAITING')
              AND NOT EXISTS (SELECT FROM attempts a
                              WHERE a.invocation_id = i.id AND a.started_at > now() - %(waited)s)
            RETURNING *
        )
        INSERT INTO audit_entries ({AUDIT_COLUMNS})
        SELECT 'action', 'UNROUTED', plugin, capability_key, e.trigger_id, event_id, action_id, marked.id,
               NULL, NULL, jsonb_build_object('taskQueue', %(queue)s::text)
        FROM marked JOIN events e ON e.id = marked.event_id
        """,
        {"ids": list(invocation_ids), "queue": queue, "waited": waited},
    )
    return cursor.rowcount


async def count_by_queue(connection: Connection) -> dict[str, int]:
    """How many invocations wait for a worker that takes them, by task queue; ten thousand are looked at."""
    cursor = await connection.execute(
        """
        SELECT coalesce(task_queue, %s) AS queue, count(*) AS number
        FROM (SELECT task_queue FROM invocations WHERE status = 'UNROUTED' LIMIT 10000) AS waiting
        GROUP BY 1 ORDER BY 1
        """,
        (TASK_QUEUE,),
    )
    return {row["queue"]: row["number"] for row in await cursor.fetchall()}

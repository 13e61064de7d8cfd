"""Which plugins' own task queues open events wait on: each event keeps the queues it was opened with."""

from latchflow.store.database import Connection

_MOST_OPEN = 10_000
_MOST_READ = 1000


async def awaited(connection: Connection) -> dict[str, int]:
    """By plugin, the open invocations on its own queue, of the oldest thousand open events."""
    cursor = await connection.execute(
        """
        WITH open AS (
            SELECT id, fired_at FROM events WHERE start_confirmed_at IS NOT NULL AND closed_at IS NULL LIMIT %s
        ), oldest AS (
            SELECT manifest FROM events JOIN (SELECT id FROM open ORDER BY fired_at LIMIT %s) AS first USING (id)
        )
        SELECT invocations.plugin, count(*) AS number
        FROM oldest
        CROSS JOIN LATERAL jsonb_path_query(manifest, '$.runs[*].steps[*] ? (@.task_queue != null)') AS step
        JOIN invocations ON invocations.id = (step ->> 'invocation_id')::uuid AND invocations.ended_at IS NULL
        GROUP BY invocations.plugin ORDER BY invocations.plugin
        """,
        (_MOST_OPEN, _MOST_READ),
    )
    return {row["plugin"]: row["number"] for row in await cursor.fetchall()}

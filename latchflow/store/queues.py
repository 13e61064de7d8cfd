"""Which plugins' own task queues open invocations wait on: each keeps the queue it was made with."""

from latchflow.store.database import Connection

_MOST_QUEUES = 1000
_MOST_COUNTED = 1000


async def awaited(connection: Connection) -> dict[str, int]:
    """By plugin, the open invocations on its own queue; of more than a thousand on one, a thousand."""
    # From queue to queue by the index: what is read grows with the queues, not with what waits on them.
    cursor = await connection.execute(
        """
        WITH RECURSIVE queues (task_queue) AS (
            (SELECT task_queue FROM invocations WHERE ended_at IS NULL AND task_queue IS NOT NULL
             ORDER BY task_queue LIMIT 1)
            UNION ALL
            SELECT (SELECT i.task_queue FROM invocations i
                    WHERE i.ended_at IS NULL AND i.task_queue > queues.task_queue
                    ORDER BY i.task_queue LIMIT 1)
            FROM queues WHERE queues.task_queue IS NOT NULL
        )
        SELECT waiting.plugin, count(*) AS number
        FROM (SELECT task_queue FROM queues WHERE task_queue IS NOT NULL LIMIT %s) AS queue
        CROSS JOIN LATERAL (
            SELECT plugin FROM invocations
            WHERE ended_at IS NULL AND task_queue = queue.task_queue AND plugin IS NOT NULL LIMIT %s
        ) AS waiting
        GROUP BY waiting.plugin ORDER BY waiting.plugin
        """,
        (_MOST_QUEUES, _MOST_COUNTED),
    )
    return {row["plugin"]: row["number"] for row in await cursor.fetchall()}

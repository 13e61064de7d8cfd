"""Whether events have changed, asked often and for many at once, without reading them."""

from collections.abc import Collection
from uuid import UUID

from latchflow.store.database import Connection


async def marks(connection: Connection, event_ids: Collection[UUID]) -> dict[UUID, str]:
    """A mark for each event, another one after everything that changes its document; none of one that is not there.

    All that happens to an invocation has an audit entry. Of entries both the number and the newest count: one that
    took its number first may become visible last. What has no entry stands in the rows of the event and its runs.
    """
    cursor = await connection.execute(
        """
        SELECT e.id, concat_ws(' ', e.xmin, (SELECT count(*) || '/' || max(a.seq) FROM audit_entries a
                                             WHERE a.trigger_event_id = e.id),
                               (SELECT string_agg(r.xmin::text, ',' ORDER BY r.id) FROM runs r
                                WHERE r.event_id = e.id)) AS mark
        FROM events e WHERE e.id = ANY(%s)
        """,
        (list(event_ids),),
    )
    return {row["id"]: row["mark"] for row in await cursor.fetchall()}

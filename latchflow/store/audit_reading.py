"""Reading the audit in the order of ``seq``, without ever passing an entry that is still being written."""

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from latchflow.store.database import Connection
from latchflow.store.pages import Page, page_of

FILTERS = (
    "kind",
    "phase",
    "plugin_name",
    "trigger_definition_id",
    "trigger_event_id",
    "action_definition_id",
    "invocation_id",
    "actor",
)
"""Columns that a reader may ask for by their exact value."""


async def list_entries(
    connection: Connection, filters: Mapping[str, Any], *, limit: int, after: int | None
) -> Page[dict[str, Any]]:
    """Entries by ascending ``seq``, from behind the seq `after`.

    A reader that goes on from the last page never misses an entry, however its writers were interleaved.

    Args:
        connection: Outside a transaction: each statement must see what was committed before it.
        filters: Values of `FILTERS`, and ``from`` (inclusive) and ``to`` (exclusive) times.
        limit: Entries at most.
        after: The seq behind which to begin.
    """
    horizon = await _horizon(connection)
    values: dict[str, Any] = {"after": after or 0, "horizon": horizon, "limit": limit + 1}
    conditions: list[sql.Composable] = [sql.SQL("seq > %(after)s AND seq <= %(horizon)s")]
    for name in FILTERS:
        if filters.get(name) is not None:
            conditions.append(sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)))
            values[name] = filters[name]
    for name, comparison in (("from", ">="), ("to", "<")):
        if filters.get(name) is not None:
            conditions.append(sql.SQL('"timestamp" {} {}').format(sql.SQL(comparison), sql.Placeholder(name)))
            values[name] = filters[name]
    statement = sql.SQL("SELECT * FROM audit_entries WHERE {} ORDER BY seq LIMIT %(limit)s")
    cursor = await connection.execute(statement.format(sql.SQL(" AND ").join(conditions)), values)
    return page_of(await cursor.fetchall(), limit, lambda row: row["seq"])


async def _horizon(connection: Connection) -> int:
    """The highest seq below which no entry can still appear.

    An INSERT locks the table before it takes its seq, and keeps the lock until its transaction ends. So whoever took
    a seq up to the highest one seen here either still shows in pg_locks, or has ended and is seen by the statement
    that reads afterwards. Whoever still shows took its seqs after its transaction began: entries written before that
    have smaller ones.
    """
    highest = await (await connection.execute("SELECT max(seq) AS seq FROM audit_entries")).fetchone()
    writers = await (
        await connection.execute(
            """
            SELECT min(a.xact_start) AS oldest,
                   bool_or(l.pid IS NULL OR (a.pid IS NOT NULL AND a.state IS NULL)) AS has_unknown
            FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
            WHERE l.locktype = 'relation' AND l.relation = 'audit_entries'::regclass AND l.mode = 'RowExclusiveLock'
              AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
            """
        )
    ).fetchone()
    if highest is None or highest["seq"] is None or writers is None:
        return 0
    if writers["has_unknown"]:
        return 0  # A writer of another role: Postgres does not tell when it began. Wait until it ends.
    if writers["oldest"] is None:
        return int(highest["seq"])
    below = await (
        await connection.execute(
            'SELECT max(seq) AS seq FROM audit_entries WHERE "timestamp" < %s AND seq <= %s',
            (writers["oldest"], highest["seq"]),
        )
    ).fetchone()
    return int(below["seq"]) if below and below["seq"] is not None else 0

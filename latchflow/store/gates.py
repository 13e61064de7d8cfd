"""The gate's rows: which events of a trigger run, which wait for their turn, which are to be cancelled."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from latchflow import gate
from latchflow.gate import Decision, Load, Overlap, Rule
from latchflow.model import Manifest
from latchflow.store.attempts import AUDIT_COLUMNS
from latchflow.store.database import Connection
from latchflow.store.events import readable_manifest

RELEASED_AT_ONCE = 20
"""Events that the end of another lets in, at most: more than one only after a rule was loosened."""


@dataclass(frozen=True, kw_only=True)
class Unwanted:
    """An event that is to be cancelled.

    Attributes:
        is_waiting: It waits for its turn, so no workflow knows of it.
    """

    id: UUID
    is_waiting: bool


async def decide(connection: Connection, trigger_id: UUID, rule: Rule) -> Decision:
    """What becomes of a new event of a trigger, inside the transaction that opens it.

    Unless everything runs, this takes the gate of the trigger until the transaction ends. Whoever takes it does so
    before locking a row of an event, and after taking a dedupe key.
    """
    if rule.lets_all_run:
        return gate.decide(rule, Load(running=0, waiting=0))
    await hold(connection, trigger_id)
    return gate.decide(rule, await _load(connection, trigger_id, gate.needed(rule)))


async def hold(connection: Connection, trigger_id: UUID) -> None:
    """Take the gate of a trigger until the transaction ends.

    Not a lock of the trigger's row: that one is shared by dispatches that pass, could not be raised without a
    deadlock, and would be gone with the trigger while its events still wait.
    """
    await connection.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"gate of {trigger_id}",))


async def hold_of_event(connection: Connection, event_id: UUID) -> UUID | None:
    """Take the gate of the trigger of an open event, if it has a rule.

    Returns:
        The trigger; None when no event waits for the end of this one.
    """
    row = await (
        await connection.execute(
            """
            SELECT t.id FROM events e JOIN trigger_definitions t ON t.id = e.trigger_id
            WHERE e.id = %s AND e.closed_at IS NULL
              AND (t.overlap <> 'allow_all' OR t.max_running_events IS NOT NULL)
            """,
            (event_id,),
        )
    ).fetchone()
    if row is None:
        return None
    await hold(connection, row["id"])
    trigger_id: UUID = row["id"]
    return trigger_id


async def release(connection: Connection, trigger_id: UUID, *, most: int = RELEASED_AT_ONCE) -> list[Manifest]:
    """Let in what may start now, in the order in which it came; the caller holds the gate.

    Returns:
        What to start after the commit.
    """
    number = min(most, await room(connection, trigger_id, most=most))
    if number == 0:
        return []
    rows = await (
        await connection.execute(
            f"""
            WITH next AS (
                SELECT id FROM events
                WHERE trigger_id = %s AND is_waiting AND closed_at IS NULL AND cancel_wanted_at IS NULL
                ORDER BY fired_at, id LIMIT %s FOR UPDATE
            ), released AS (
                UPDATE events SET is_waiting = false, released_at = clock_timestamp() FROM next
                WHERE events.id = next.id RETURNING events.*
            ), audited AS (
                INSERT INTO audit_entries ({AUDIT_COLUMNS})
                SELECT 'trigger', NULL, p.name, c.key, r.trigger_id, r.id, NULL, NULL, NULL, NULL,
                       '{{"operation": "release"}}'
                FROM released r LEFT JOIN trigger_definitions t ON t.id = r.trigger_id
                LEFT JOIN capabilities c ON c.id = t.capability_id LEFT JOIN plugins p ON p.id = c.plugin_id
                ORDER BY r.fired_at, r.id
            )
            SELECT id, manifest FROM released ORDER BY fired_at, id
            """,
            (trigger_id, number),
        )
    ).fetchall()
    return [manifest for row in rows if (manifest := readable_manifest(row)) is not None]


async def room(connection: Connection, trigger_id: UUID, *, most: int) -> int:
    """How many of those that wait may start now, counted up to `most`. Without the gate it is a guess."""
    rule = await _rule(connection, trigger_id)
    return gate.room(rule, await _load(connection, trigger_id, max(most, gate.needed(rule))))


async def triggers_with_waiting(connection: Connection, *, after: UUID | None, limit: int) -> list[UUID]:
    """Triggers with events that wait, by id; however many wait, each costs one look into the index."""
    rows = await (
        await connection.execute(
            """
            WITH RECURSIVE found (trigger_id) AS (
                (SELECT trigger_id FROM events
                 WHERE is_waiting AND closed_at IS NULL AND cancel_wanted_at IS NULL
                   AND trigger_id > coalesce(%(after)s, '00000000-0000-0000-0000-000000000000'::uuid)
                 ORDER BY trigger_id LIMIT 1)
                UNION ALL
                SELECT (SELECT e.trigger_id FROM events e
                        WHERE e.is_waiting AND e.closed_at IS NULL AND e.cancel_wanted_at IS NULL
                          AND e.trigger_id > found.trigger_id
                        ORDER BY e.trigger_id LIMIT 1)
                FROM found WHERE found.trigger_id IS NOT NULL
            )
            SELECT trigger_id FROM found WHERE trigger_id IS NOT NULL LIMIT %(limit)s
            """,
            {"after": after, "limit": limit},
        )
    ).fetchall()
    return [row["trigger_id"] for row in rows]


async def unwant_others(connection: Connection, trigger_id: UUID) -> list[Unwanted]:
    """Note, with an audit entry, that every open event of a trigger is to be cancelled, before a new one is opened.

    The caller holds the gate. What is noted is tried until it has happened.
    """
    rows = await (
        await connection.execute(
            f"""
            WITH unwanted AS (
                UPDATE events SET cancel_wanted_at = clock_timestamp()
                WHERE trigger_id = %s AND closed_at IS NULL AND cancel_wanted_at IS NULL
                RETURNING id, is_waiting, trigger_id
            ), audited AS (
                INSERT INTO audit_entries ({AUDIT_COLUMNS})
                SELECT 'trigger', NULL, p.name, c.key, u.trigger_id, u.id, NULL, NULL, NULL, NULL,
                       '{{"operation": "cancel", "reason": "cancel_other"}}'
                FROM unwanted u JOIN trigger_definitions t ON t.id = u.trigger_id
                JOIN capabilities c ON c.id = t.capability_id JOIN plugins p ON p.id = c.plugin_id
            )
            SELECT id, is_waiting FROM unwanted
            """,
            (trigger_id,),
        )
    ).fetchall()
    return [Unwanted(**row) for row in rows]


async def unwanted(connection: Connection, *, limit: int) -> list[Unwanted]:
    """Events whose cancellation was not asked for yet, the oldest wish first."""
    rows = await (
        await connection.execute(
            """
            SELECT id, is_waiting FROM events
            WHERE cancel_wanted_at IS NOT NULL AND cancel_asked_at IS NULL AND closed_at IS NULL
            ORDER BY cancel_wanted_at LIMIT %s
            """,
            (limit,),
        )
    ).fetchall()
    return [Unwanted(**row) for row in rows]


async def note_asked(connection: Connection, event_id: UUID) -> None:
    """Temporal will cancel the workflow of an event."""
    await connection.execute("UPDATE events SET cancel_asked_at = clock_timestamp() WHERE id = %s", (event_id,))


async def lock_waiting(connection: Connection, event_id: UUID) -> bool:
    """Whether an open event waits for its turn; it is locked then, so that its turn cannot come meanwhile."""
    cursor = await connection.execute(
        "SELECT FROM events WHERE id = %s AND closed_at IS NULL AND is_waiting FOR UPDATE", (event_id,)
    )
    return await cursor.fetchone() is not None


async def count_waiting(connection: Connection) -> int:
    """Events that wait for their turn; counted up to ten thousand."""
    row = await (
        await connection.execute(
            """
            SELECT count(*) AS number FROM (
                SELECT FROM events WHERE is_waiting AND closed_at IS NULL AND cancel_wanted_at IS NULL
                LIMIT 10000) AS waiting
            """
        )
    ).fetchone()
    return int(row["number"]) if row else 0


def rule_of(row: dict[str, Any]) -> Rule:
    """Take the columns of a rule out of a row."""
    return Rule(
        overlap=Overlap(row.pop("overlap")),
        max_running_events=row.pop("max_running_events"),
        is_paused=row.pop("is_paused"),
    )


async def _rule(connection: Connection, trigger_id: UUID) -> Rule:
    """The rule of a trigger; of one that was deleted, that everything runs."""
    row = await (
        await connection.execute(
            """
            SELECT coalesce(t.overlap, 'allow_all') AS overlap, t.max_running_events, d.is_paused
            FROM deployment d LEFT JOIN trigger_definitions t ON t.id = %s
            """,
            (trigger_id,),
        )
    ).fetchone()
    return rule_of(row) if row else Rule()


async def _load(connection: Connection, trigger_id: UUID, most: int) -> Load:
    counted: Sequence[Any] = await (
        await connection.execute(
            """
            SELECT (SELECT count(*) FROM (SELECT FROM events WHERE trigger_id = %(id)s AND NOT is_waiting
                                          AND closed_at IS NULL LIMIT %(most)s) AS let_in) AS running,
                   (SELECT count(*) FROM (SELECT FROM events WHERE trigger_id = %(id)s AND is_waiting
                                          AND closed_at IS NULL AND cancel_wanted_at IS NULL
                                          LIMIT %(most)s) AS left_out) AS waiting
            """,
            {"id": trigger_id, "most": most},
        )
    ).fetchall()
    return Load(**counted[0])

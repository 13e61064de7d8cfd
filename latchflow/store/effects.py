"""The ledger of effects outside: written down before they happen and after, with their audit entries."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from latchflow.store.attempts import AUDIT_COLUMNS, Task
from latchflow.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class EffectKey:
    """One effect of an invocation, as one of its attempts sees it."""

    service: str
    ordinal: int
    attempt: int


@dataclass(frozen=True, kw_only=True)
class PriorEffect:
    """What was known of an effect; `state` None: nothing. Another version's `content` is None: it is not compared."""

    state: str | None
    target: bytes
    content: bytes | None = None
    live_until: datetime | None = None
    via: str | None = None
    result_sealed: bytes | None = None
    written_by: UUID | None = None

    def is_another(self, target: bytes, content: bytes) -> bool:
        """Whether what is asked for now is not this effect. What failed may be said in other words."""
        if self.target != target:
            return True
        return self.state in ("done", "intended") and self.content not in (None, content)

    def is_unclear(self, target: bytes) -> bool:
        """Whether nobody knows if it happened, at this place, in whatever words."""
        return self.target == target and self.state == "intended"


async def begin(
    connection: Connection,
    task: Task,
    key: EffectKey,
    *,
    writer: UUID,
    target: bytes,
    content: bytes,
    code_hash: str,
    actor: str | None,
    detail: Mapping[str, Any],
) -> PriorEffect | None:
    """Write an effect down as intended and audit that; one that is ``done`` or ``intended`` stays as it is.

    Inside a transaction; the rows of the invocation and its effects are locked in this order.

    Args:
        connection: Inside the transaction.
        task: The invocation.
        key: The effect.
        writer: Of this call, and equal when it is repeated because the answer to its commit was lost.
        target: SHA-256 of what the effect goes to.
        content: SHA-256 of what it says there.
        code_hash: Of the plugin's code that says it.
        actor: Who the plugin says it is for.
        detail: For the audit.

    Returns:
        What was there before; None when the attempt has ended or lost its claim: it may have no effect any more.
    """
    values = {**_values(task, key), "target": target, "content": content, "code": code_hash, "writer": writer}
    held = await (
        await connection.execute(
            """
            SELECT FROM invocations i JOIN attempts a ON a.invocation_id = i.id AND a.number = i.attempt_number
            WHERE i.id = %(invocation)s AND i.ended_at IS NULL AND a.number = %(number)s AND a.phase = 'STARTED'
            FOR SHARE OF i
            """,
            values,
        )
    ).fetchone()
    if held is None:
        return None
    row = await (
        await connection.execute(
            """
            SELECT state, target, CASE WHEN code_hash = %(code)s THEN content END AS content, via, live_until,
                   result_sealed, written_by
            FROM effects
            WHERE invocation_id = %(invocation)s AND service = %(service)s AND ordinal = %(ordinal)s FOR UPDATE
            """,
            values,
        )
    ).fetchone()
    prior = PriorEffect(**row) if row else PriorEffect(state=None, target=target)
    outcome = "intended"
    if prior.is_another(target, content):
        outcome = "outcome_unknown" if prior.is_unclear(target) else "fatal"
    elif prior.state == "done":
        outcome, detail = "ok", {**detail, "adopted": True}
    elif prior.state == "intended" and prior.written_by == writer:
        # Written by this very call, whose answer was lost: nothing has happened yet, and it is in the audit.
        return replace(prior, state=None)
    elif prior.state == "intended":
        # From here on the row is this attempt's: a slower one that learns it did nothing must not say so any more.
        await connection.execute(
            """
            UPDATE effects SET attempt = %(number)s, content = %(content)s, code_hash = %(code)s
            WHERE invocation_id = %(invocation)s AND service = %(service)s AND ordinal = %(ordinal)s
            """,
            values,
        )
    else:
        await connection.execute(
            """
            INSERT INTO effects (invocation_id, service, ordinal, target, content, code_hash, state, attempt,
                                 written_by)
            VALUES (%(invocation)s, %(service)s, %(ordinal)s, %(target)s, %(content)s, %(code)s, 'intended',
                    %(number)s, %(writer)s)
            ON CONFLICT (invocation_id, service, ordinal) DO UPDATE
            SET state = 'intended', content = excluded.content, code_hash = excluded.code_hash, via = NULL,
                live_until = NULL, attempt = excluded.attempt, intended_at = now(), ended_at = NULL,
                written_by = excluded.written_by
            """,
            values,
        )
    await connection.execute(_AUDIT, {**values, "actor": actor, "detail": Jsonb({**detail, "outcome": outcome})})
    return prior


async def hand_over(connection: Connection, task: Task, key: EffectKey, via: str, *, live_until: datetime) -> bool:
    """Say which provider the effect goes to now, and when the attempt can hand nothing over any more.

    Returns:
        False when the attempt has ended or lost its claim: a later one may have found that no provider has it yet.
    """
    cursor = await connection.execute(
        """
        WITH held AS (
            SELECT i.id FROM invocations i JOIN attempts a ON a.invocation_id = i.id AND a.number = i.attempt_number
            WHERE i.id = %(invocation)s AND i.ended_at IS NULL AND a.number = %(number)s AND a.phase = 'STARTED'
            FOR SHARE OF i
        )
        UPDATE effects SET via = %(via)s, live_until = greatest(live_until, %(live_until)s) FROM held
        WHERE invocation_id = held.id AND service = %(service)s AND ordinal = %(ordinal)s
        """,
        {**_values(task, key), "via": via, "live_until": live_until},
    )
    return cursor.rowcount == 1


async def finish(
    connection: Connection,
    task: Task,
    key: EffectKey,
    *,
    state: str,
    result_sealed: bytes | None,
    actor: str | None,
    detail: Mapping[str, Any],
) -> None:
    """Say what became of an effect, in one statement with its audit entry.

    Of one that stays ``intended`` nobody knows whether it happened; but this attempt, whose call came back, will not
    bring it about any more.
    What one attempt knows to be done stays done, whatever a slower one reports; what changes nothing is not audited.
    """
    await connection.execute(
        f"""
        WITH ended AS (
            UPDATE effects SET state = %(state)s, result_sealed = %(result)s, attempt = %(number)s, live_until = NULL,
                               ended_at = CASE WHEN %(state)s <> 'intended' THEN clock_timestamp() END
            WHERE invocation_id = %(invocation)s AND service = %(service)s AND ordinal = %(ordinal)s
              AND state <> 'done' AND (attempt <= %(number)s OR %(state)s = 'done')
            RETURNING service
        )
        INSERT INTO audit_entries ({AUDIT_COLUMNS})
        SELECT {_ENTRY} FROM ended
        """,
        {
            **_values(task, key),
            "state": state,
            "result": result_sealed,
            "actor": actor,
            "detail": Jsonb(dict(detail)),
        },
    )


_ENTRY = """
    'service', NULL, %(plugin)s::text, %(capability)s::text, %(trigger)s::uuid, %(event)s::uuid, %(action)s::uuid,
    %(invocation)s::uuid, %(number)s::integer, %(actor)s::text, %(detail)s::jsonb
"""
_AUDIT = f"INSERT INTO audit_entries ({AUDIT_COLUMNS}) VALUES ({_ENTRY})"


def _values(task: Task, key: EffectKey) -> dict[str, Any]:
    invocation_id: UUID = task.invocation_id
    return {
        "invocation": invocation_id,
        "service": key.service,
        "ordinal": key.ordinal,
        "number": key.attempt,
        "plugin": task.plugin,
        "capability": task.capability_key,
        "trigger": task.trigger_id,
        "event": task.event_id,
        "action": task.action_id,
    }

"""Rows of invocations beside their attempts: inputs, outputs, and endings that no attempt wrote."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from latchflow.masking import readable
from latchflow.model import InvocationStatus, Outcome
from latchflow.names import PLUGIN_DISABLED
from latchflow.store.attempts import AUDIT_COLUMNS, Task, end_open_attempts
from latchflow.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A step of a run that has ended, or one of its items.

    Attributes:
        item_count: Set on a ``forEach`` step; its items follow it.
    """

    id: UUID
    step_name: str
    status: InvocationStatus
    item_index: int | None
    item_count: int | None
    output_sealed: bytes | None
    error: Mapping[str, Any] | None


async def ended_of_run(connection: Connection, run_id: UUID, names: Sequence[str] | None) -> list[Ended]:
    """The steps of a run that have ended, and the items of each.

    Args:
        connection: Where.
        run_id: Which run.
        names: Of which steps; None for all.
    """
    rows = await (
        await connection.execute(
            """
            SELECT i.id, i.step_name, i.status, i.item_index, i.item_count, i.output_sealed, i.error
            FROM invocations i
            WHERE i.run_id = %(run)s AND (%(names)s::text[] IS NULL OR i.step_name = ANY(%(names)s))
              AND EXISTS (SELECT FROM invocations step WHERE step.run_id = i.run_id AND step.step_id = i.step_id
                          AND step.item_index IS NULL AND step.ended_at IS NOT NULL)
            ORDER BY i.step_id, i.item_index NULLS FIRST
            """,
            {"run": run_id, "names": list(names) if names is not None else None},
        )
    ).fetchall()
    return [Ended(**{**row, "status": InvocationStatus(row["status"])}) for row in rows]


async def skip(connection: Connection, task: Task, reason: str) -> bool:
    """End an invocation that will not run; False when it has ended, or an attempt of it has begun."""
    outcome = Outcome(invocation_id=task.invocation_id, status=InvocationStatus.SKIPPED, reason=reason)
    return await end_invocation(connection, outcome, is_unclaimed=True)


async def end_invocation(
    connection: Connection,
    outcome: Outcome,
    *,
    is_unclaimed: bool = False,
    error_type: str | None = None,
    output_sealed: bytes | None = None,
) -> bool:
    """End an invocation outside of any attempt, with an audit entry.

    Args:
        connection: Where.
        outcome: Its ending.
        is_unclaimed: End it only while no attempt of it has begun.
        error_type: Of its error; without one, the status.
        output_sealed: What it put out, when it succeeded.

    Returns:
        False when nothing was ended.
    """
    error = None
    reason = readable(outcome.reason) if outcome.reason is not None else None
    if not outcome.status.is_success:
        error = {"type": error_type or outcome.status.value, "message": reason or ""}
    row = await (
        await connection.execute(
            f"""
            WITH ended AS (
                UPDATE invocations
                SET status = %(status)s, ended_at = clock_timestamp(), next_attempt_at = NULL,
                    pending_sealed = NULL, pending_deadline = NULL, waiting_for = NULL,
                    is_partial = %(partial)s, output_sealed = coalesce(%(output)s, output_sealed),
                    skipped_reason = CASE WHEN %(status)s = 'SKIPPED' THEN %(reason)s END,
                    error = coalesce(%(error)s, error)
                WHERE id = %(id)s AND ended_at IS NULL AND (NOT %(unclaimed)s OR attempt_number = 0)
                RETURNING *
            )
            INSERT INTO audit_entries ({AUDIT_COLUMNS})
            SELECT 'action', %(status)s, plugin, capability_key, e.trigger_id, event_id, action_id, ended.id,
                   NULL, NULL, jsonb_build_object('reason', %(reason)s::text)
            FROM ended JOIN events e ON e.id = ended.event_id
            RETURNING seq
            """,
            {
                "status": outcome.status,
                "reason": reason,
                "error": Jsonb(error) if error is not None else None,
                "id": outcome.invocation_id,
                "unclaimed": is_unclaimed,
                "partial": outcome.is_partial,
                "output": output_sealed,
            },
        )
    ).fetchone()
    return row is not None


async def end_disabled(connection: Connection, invocation_id: UUID, reason: str) -> bool:
    """End an invocation whose plugin an admin disabled, and what is open of its attempts, inside a transaction.

    Returns:
        False when it has ended already.
    """
    # First the invocation, then its attempts, as everyone does: no deadlock.
    await lock(connection, invocation_id)
    await end_open_attempts(connection, [invocation_id], reason=reason)
    outcome = Outcome(invocation_id=invocation_id, status=InvocationStatus.FAILED_PERMANENT, reason=reason)
    return await end_invocation(connection, outcome, error_type=PLUGIN_DISABLED)


async def lock(connection: Connection, invocation_id: UUID) -> None:
    """Keep others from changing an invocation until the transaction ends."""
    await connection.execute("SELECT FROM invocations WHERE id = %s FOR UPDATE", (invocation_id,))


async def mark_unrouted(connection: Connection, invocation_id: UUID) -> None:
    """An invocation waits for a worker that has its capability; audited once, until a worker claims it."""
    await connection.execute(
        f"""
        WITH marked AS (
            UPDATE invocations SET status = 'UNROUTED', waiting_for = NULL
            WHERE id = %s AND ended_at IS NULL AND status <> 'UNROUTED'
            RETURNING *
        )
        INSERT INTO audit_entries ({AUDIT_COLUMNS})
        SELECT 'action', 'UNROUTED', plugin, capability_key, e.trigger_id, event_id, action_id, marked.id,
               NULL, NULL, '{{}}'
        FROM marked JOIN events e ON e.id = marked.event_id
        """,
        (invocation_id,),
    )


async def keep_input(connection: Connection, invocation_id: UUID, input_sealed: bytes) -> None:
    """Keep an evaluated input, so that every later attempt gets the same payload."""
    await connection.execute(
        "UPDATE invocations SET input_sealed = %s WHERE id = %s AND input_sealed IS NULL",
        (input_sealed, invocation_id),
    )


async def begin_waiting(
    connection: Connection,
    invocation_id: UUID,
    *,
    waiting_for: str,
    until: datetime | None,
    deadline: datetime | None = None,
) -> None:
    """A delay or an approval begins to wait, with its audit entry; nothing happens when it has begun or ended."""
    await connection.execute(
        f"""
        WITH begun AS (
            UPDATE invocations
            SET status = 'WAITING', waiting_for = %(for)s, next_attempt_at = %(until)s, pending_deadline = %(deadline)s
            WHERE id = %(id)s AND ended_at IS NULL AND status = 'PENDING'
            RETURNING *
        )
        INSERT INTO audit_entries ({AUDIT_COLUMNS})
        SELECT 'action', 'WAITING', plugin, capability_key, e.trigger_id, event_id, action_id, begun.id,
               NULL, NULL, jsonb_build_object('waitingFor', %(for)s::text)
        FROM begun JOIN events e ON e.id = begun.event_id
        """,
        {"id": invocation_id, "for": waiting_for, "until": until, "deadline": deadline},
    )

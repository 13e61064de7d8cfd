"""The items of a ``forEach``: each an invocation of its own beside that of its step."""

from collections.abc import Sequence
from uuid import UUID

from latchflow.model import InvocationStatus, Outcome
from latchflow.store.attempts import AUDIT_COLUMNS
from latchflow.store.database import Connection


async def add_items(connection: Connection, invocation_id: UUID, items: Sequence[tuple[UUID, bytes]]) -> int:
    """Give a step the invocations of its items, inside a transaction; what was added before stays.

    Args:
        connection: Inside a transaction.
        invocation_id: Of the step.
        items: The id and the sealed value of each, in their order.

    Returns:
        How many there are now, which may be fewer when an earlier call added them.
    """
    row = await (
        await connection.execute(
            """
            UPDATE invocations SET item_count = %s, status = 'RUNNING'
            WHERE id = %s AND ended_at IS NULL AND item_count IS NULL RETURNING item_count
            """,
            (len(items), invocation_id),
        )
    ).fetchone()
    if row is None:  # it has ended, or has its items
        row = await (
            await connection.execute("SELECT item_count FROM invocations WHERE id = %s", (invocation_id,))
        ).fetchone()
        return int(row["item_count"] or 0) if row else 0
    await connection.execute(
        """
        INSERT INTO invocations (id, event_id, run_id, step_id, step_name, ordinal, item_index, kind, action_id,
                                 action_version, plugin, capability_key, input_template, wait, task_queue,
                                 item_sealed, status)
        SELECT item.id, i.event_id, i.run_id, i.step_id, i.step_name, i.ordinal, item.position - 1, i.kind, i.action_id,
               i.action_version, i.plugin, i.capability_key, i.input_template, i.wait, i.task_queue,
               item.sealed, 'PENDING'
        FROM invocations i, unnest(%s::uuid[], %s::bytea[]) WITH ORDINALITY AS item (id, sealed, position)
        WHERE i.id = %s
        ON CONFLICT (id) DO NOTHING
        """,
        ([item_id for item_id, _ in items], [sealed for _, sealed in items], invocation_id),
    )
    return int(row["item_count"])


async def end_open_items(connection: Connection, run_id: UUID, outcome: Outcome) -> None:
    """End the items of a run that have no ending, whose step has one, with their audit entries."""
    await connection.execute(
        f"""
        WITH ended AS (
            UPDATE invocations
            SET status = %(status)s, ended_at = clock_timestamp(), next_attempt_at = NULL, pending_sealed = NULL,
                pending_deadline = NULL, waiting_for = NULL,
                error = CASE WHEN %(failed)s THEN jsonb_build_object('type', %(status)s::text,
                                                                     'message', %(reason)s::text) END
            WHERE run_id = %(run)s AND item_index IS NOT NULL AND ended_at IS NULL
            RETURNING *
        )
        INSERT INTO audit_entries ({AUDIT_COLUMNS})
        SELECT 'action', %(status)s, plugin, capability_key, e.trigger_id, event_id, action_id, ended.id,
               NULL, NULL, jsonb_build_object('reason', %(reason)s::text)
        FROM ended JOIN events e ON e.id = ended.event_id
        """,
        {
            "run": run_id,
            "status": outcome.status,
            "reason": outcome.reason or "",
            "failed": outcome.status is not InvocationStatus.SKIPPED,
        },
    )

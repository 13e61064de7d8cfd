"""One row per attempt: claimed before plugin code runs, ended at most once. See `latchflow.plan` for the decisions."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from latchflow.masking import readable_json
from latchflow.model import InvocationStatus, Phase
from latchflow.store import callbacks
from latchflow.store.callbacks import Received
from latchflow.store.database import Connection

AUDIT_COLUMNS = """kind, phase, plugin_name, capability_key, trigger_definition_id, trigger_event_id,
                    action_definition_id, invocation_id, attempt, actor, detail"""
"""What a statement fills in that writes its audit entry together with its fact."""


@dataclass(frozen=True, kw_only=True)
class AttemptKey:
    """Temporal's identity of an attempt.

    Attributes:
        temporal_attempt: Temporal's count, from 1 per activity.
        turn: Of the invocation: one more each time it has waited.
    """

    workflow_run_id: str
    activity_id: str
    temporal_attempt: int
    turn: int = 0

    @property
    def activity(self) -> str:
        """The activity, equal for its attempts."""
        return f"{self.workflow_run_id}/{self.activity_id}"


@dataclass(frozen=True, kw_only=True)
class Task:
    """An invocation, as it stands in Postgres.

    Attributes:
        config_version: The version of the plugin that saved the config; of actions, as the config and ``on_unknown``.
        item_index: Of an item of a ``forEach``.
        item_count: Of a ``forEach`` whose items are known.
        decision: What was decided of an approval: ``{decision, comment, by, at}``.
        is_called_back: Somebody called it back, and no attempt has been made since.
    """

    invocation_id: UUID
    event_id: UUID
    trigger_id: UUID
    trigger_name: str
    plugin: str
    capability_key: str
    kind: str
    action_id: UUID | None
    status: InvocationStatus
    attempt_number: int
    next_attempt_at: datetime | None
    ended_at: datetime | None
    output_sealed: bytes | None
    when: str | None
    input_template: Mapping[str, Any] | None
    input_sealed: bytes | None
    skipped_reason: str | None
    error: Mapping[str, Any] | None
    config_sealed: bytes
    context_sealed: bytes
    metadata: Mapping[str, Any]
    invoker: str | None
    fired_at: datetime
    scheduled_for: datetime | None
    on_unknown: str
    config_version: str
    item_index: int | None = None
    item_sealed: bytes | None = None
    for_each: str | None = None
    item_count: int | None = None
    is_partial: bool = False
    wait: Mapping[str, Any] | None = None
    decision: Mapping[str, Any] | None = None
    pending_deadline: datetime | None = None
    is_called_back: bool = False


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Who carries an attempt out."""

    worker: str
    plugin_version: str
    code_hash: str


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """The attempt is ours.

    Attributes:
        number: Its public number.
        counted_before: Earlier attempts that count against the policy's maximum.
        lost_before: Earlier attempts that lost their worker.
        pending_sealed: Set when an earlier attempt answered ``Pending``: what is handed to ``resume``.
        pending_deadline: When such an invocation gives up.
        received: What was sent to its callback address, for ``resume``; equal for the attempts until it waits again.
    """

    number: int
    counted_before: int
    lost_before: int
    pending_sealed: bytes | None = None
    pending_deadline: datetime | None = None
    received: Received | None = None


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an attempt ended and where that leaves its invocation.

    Attributes:
        status: Of the invocation.
        is_lost: The worker went away; the attempt does not count.
        is_counted: Against the policy's maximum; a lost one never is.
        output_sealed: Set with a success.
        next_attempt_at: Set when another attempt will follow.
        pending_sealed: Set when the attempt answered ``Pending``; kept until the invocation ends.
        pending_deadline: With it, when the invocation gives up.
        waiting_for: With it, ``time``; while a callback address is open, it is kept as ``callback``.
    """

    phase: Phase
    status: InvocationStatus
    is_lost: bool = False
    is_counted: bool = True
    output_sealed: bytes | None = None
    error: Mapping[str, Any] | None = None
    progress: Any = None
    next_attempt_at: datetime | None = None
    pending_sealed: bytes | None = None
    pending_deadline: datetime | None = None
    waiting_for: str | None = None


async def load(connection: Connection, invocation_id: UUID) -> Task | None:
    """The invocation with its event and the config of the action version it was promised."""
    row = await (
        await connection.execute(
            """
            SELECT i.id AS invocation_id, i.event_id, e.trigger_id, e.trigger_name, i.plugin, i.capability_key,
                   i.kind, i.action_id, i.status, i.attempt_number, i.next_attempt_at, i.ended_at, i.output_sealed,
                   i.when_expression AS "when", i.input_template,
                   i.input_sealed, i.skipped_reason, i.error,
                   coalesce(v.config_sealed, '') AS config_sealed, coalesce(v.on_unknown, 'fail') AS on_unknown,
                   coalesce(v.plugin_version, '') AS config_version,
                   e.context_sealed, e.metadata, e.invoker, e.fired_at, e.scheduled_for,
                   i.item_index, i.item_sealed, i.for_each_expression AS for_each, i.item_count, i.is_partial, i.wait,
                   i.decision, i.pending_deadline,
                   EXISTS (SELECT FROM callbacks c WHERE c.invocation_id = i.id AND c.used_at IS NOT NULL
                           AND c.seen_at IS NULL) AS is_called_back
            FROM invocations i JOIN events e ON e.id = i.event_id
            LEFT JOIN action_versions v ON v.action_id = i.action_id AND v.version = i.action_version
            WHERE i.id = %s
            """,
            (invocation_id,),
        )
    ).fetchone()
    return Task(**{**row, "status": InvocationStatus(row["status"])}) if row else None


async def claim(connection: Connection, task: Task, key: AttemptKey, runner: Runner) -> Claimed | None:
    """Record that an attempt starts, inside a transaction. Plugin code runs only after it is committed.

    The UPDATE decides between attempts that race: it waits for the other's transaction and then sees its claim.

    Returns:
        None when the invocation has ended or a later attempt of the activity exists.
    """
    claimed = await (
        await connection.execute(
            """
            UPDATE invocations
            SET claimed_by = %(activity)s, claimed_attempt = %(attempt)s, claimed_turn = %(turn)s,
                attempt_number = attempt_number + 1, status = 'RUNNING', next_attempt_at = NULL, waiting_for = NULL
            WHERE id = %(id)s AND ended_at IS NULL
              AND (claimed_turn < %(turn)s OR claimed_turn = %(turn)s
                   AND (claimed_by IS DISTINCT FROM %(activity)s OR claimed_attempt < %(attempt)s))
            RETURNING attempt_number, pending_sealed, pending_deadline
            """,
            {
                "id": task.invocation_id,
                "activity": key.activity,
                "attempt": key.temporal_attempt,
                "turn": key.turn,
            },
        )
    ).fetchone()
    if claimed is None:
        return None
    await end_open_attempts(connection, [task.invocation_id], reason="A later attempt began.")
    # Only `resume` is told; what came while `execute` was still trying waits for its `Pending`.
    resumes = claimed["pending_sealed"] is not None
    received = await callbacks.take(connection, task.invocation_id) if resumes else None
    counts = await (
        await connection.execute(
            """
            SELECT count(*) FILTER (WHERE is_counted AND NOT is_lost AND phase IN ('RETRYING', 'FAILED', 'TIMED_OUT'))
                           AS counted,
                   -- A worker that was stopped says nothing of the action.
                   count(*) FILTER (WHERE is_lost AND error ->> 'type' IS DISTINCT FROM 'WorkerShutdown') AS lost
            FROM attempts WHERE invocation_id = %s
            """,
            (task.invocation_id,),
        )
    ).fetchone()
    assert counts is not None  # noqa: S101 - an aggregate always answers
    await connection.execute(
        f"""
        WITH started AS (
            INSERT INTO attempts (workflow_run_id, activity_id, temporal_attempt, invocation_id, number, phase,
                                  started_at, worker, plugin_version, code_hash)
            VALUES (%(run)s, %(activity)s, %(attempt)s, %(invocation)s, %(number)s, 'STARTED', clock_timestamp(),
                    %(worker)s, %(version)s, %(hash)s)
        )
        INSERT INTO audit_entries ({AUDIT_COLUMNS})
        VALUES ('action', 'STARTED', %(plugin)s, %(key)s, %(trigger)s, %(event)s, %(action)s, %(invocation)s,
                %(number)s, %(worker)s,
                jsonb_build_object('pluginVersion', %(version)s::text, 'codeHash', %(hash)s::text))
        """,
        {
            "run": key.workflow_run_id,
            "activity": key.activity_id,
            "attempt": key.temporal_attempt,
            "invocation": task.invocation_id,
            "number": claimed["attempt_number"],
            "worker": runner.worker,
            "version": runner.plugin_version,
            "hash": runner.code_hash,
            "plugin": task.plugin,
            "key": task.capability_key,
            "trigger": task.trigger_id,
            "event": task.event_id,
            "action": task.action_id,
        },
    )
    return Claimed(
        number=claimed["attempt_number"],
        counted_before=counts["counted"],
        lost_before=counts["lost"],
        pending_sealed=claimed["pending_sealed"],
        pending_deadline=claimed["pending_deadline"],
        received=received,
    )


async def end(connection: Connection, task: Task, key: AttemptKey, ending: Ending, *, number: int) -> bool:
    """Record how an attempt ended, in one statement with its audit entry.

    Returns:
        False when it had an ending already: then only ``LATE`` is added to the audit.
    """
    row = await (
        await connection.execute(
            f"""
            WITH locked AS (  -- first the invocation, then its attempts, as everyone does: no deadlock
                SELECT id FROM invocations WHERE id = %(invocation)s FOR UPDATE
            ), ended AS (
                UPDATE attempts SET phase = %(phase)s, is_lost = %(lost)s, is_counted = %(counted)s,
                                    ended_at = clock_timestamp(), error = %(error)s, progress = %(progress)s
                FROM locked
                WHERE invocation_id = locked.id AND workflow_run_id = %(run)s AND activity_id = %(activity)s
                  AND temporal_attempt = %(attempt)s AND phase = 'STARTED'
                RETURNING invocation_id
            ), moved AS (
                UPDATE invocations
                SET status = %(status)s, output_sealed = %(output)s, error = %(error)s,
                    next_attempt_at = %(next)s::timestamptz,
                    waiting_for = CASE WHEN %(waits)s AND EXISTS (SELECT FROM callbacks c WHERE c.used_at IS NULL
                                                                  AND c.invocation_id = %(invocation)s)
                                       THEN 'callback' ELSE %(waiting_for)s END,
                    pending_sealed = CASE WHEN %(waits)s THEN %(pending)s WHEN NOT %(terminal)s THEN pending_sealed END,
                    pending_deadline = CASE WHEN %(waits)s THEN %(deadline)s::timestamptz
                                            WHEN NOT %(terminal)s THEN pending_deadline END,
                    ended_at = CASE WHEN %(terminal)s THEN clock_timestamp() END
                FROM ended WHERE invocations.id = ended.invocation_id AND invocations.ended_at IS NULL
            ), put_away AS (  -- what was in hand is done with: the next turn gets the next callback
                UPDATE callbacks SET body_sealed = NULL
                FROM ended WHERE callbacks.invocation_id = ended.invocation_id
                  AND (%(terminal)s OR %(waits)s AND callbacks.seen_at IS NOT NULL)
            ), decided AS MATERIALIZED (
                -- Before the entry takes its number: the winner's must be the smaller one.
                SELECT count(*) > 0 AS is_ending FROM ended
            )
            INSERT INTO audit_entries ({AUDIT_COLUMNS})
            SELECT 'action', CASE WHEN is_ending THEN %(phase)s ELSE 'LATE' END, %(plugin)s, %(key)s,
                   %(trigger)s, %(event)s, %(action)s, %(invocation)s, %(number)s, NULL, %(detail)s
            FROM decided
            RETURNING phase
            """,
            {
                "phase": ending.phase,
                "lost": ending.is_lost,
                "counted": ending.is_counted,
                "error": Jsonb(readable_json(ending.error)) if ending.error is not None else None,
                "progress": Jsonb(readable_json(ending.progress)) if ending.progress is not None else None,
                "run": key.workflow_run_id,
                "activity": key.activity_id,
                "attempt": key.temporal_attempt,
                "status": ending.status,
                "output": ending.output_sealed,
                "next": ending.next_attempt_at,
                "terminal": ending.status.is_terminal,
                "waits": ending.phase is Phase.WAITING,
                "waiting_for": ending.waiting_for,
                "pending": ending.pending_sealed,
                "deadline": ending.pending_deadline,
                "plugin": task.plugin,
                "key": task.capability_key,
                "trigger": task.trigger_id,
                "event": task.event_id,
                "action": task.action_id,
                "invocation": task.invocation_id,
                "number": number,
                "detail": Jsonb(readable_json({"errorType": ending.error["type"]}) if ending.error else {}),
            },
        )
    ).fetchone()
    return row is not None and row["phase"] != Phase.LATE


async def end_open_attempts(connection: Connection, invocation_ids: list[UUID], *, reason: str) -> None:
    """End attempts whose worker never reported: TIMED_OUT and lost, so that they do not count."""
    await connection.execute(
        f"""
        WITH ended AS (
            UPDATE attempts SET phase = 'TIMED_OUT', is_lost = true, ended_at = clock_timestamp(),
                                error = jsonb_build_object('type', 'WorkerLost', 'message', %(reason)s::text)
            WHERE invocation_id = ANY(%(ids)s) AND phase = 'STARTED'
            RETURNING invocation_id, number
        )
        INSERT INTO audit_entries ({AUDIT_COLUMNS})
        SELECT 'action', 'TIMED_OUT', i.plugin, i.capability_key, e.trigger_id, i.event_id, i.action_id, i.id,
               ended.number, NULL, '{{"lost": true}}'
        FROM ended JOIN invocations i ON i.id = ended.invocation_id JOIN events e ON e.id = i.event_id
        """,
        {"ids": invocation_ids, "reason": reason},
    )

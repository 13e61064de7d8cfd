"""Opening an event: the trigger under its lock, the dedupe key, the pipelines in force, the rows it owes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from latchflow.gate import Decision, Rule, Verdict
from latchflow.model import EventStatus, Manifest, PipelineInForce, StepInForce
from latchflow.names import TEST_RUN_ID, TEST_RUN_NAME, event_workflow_id
from latchflow.store.database import Connection
from latchflow.store.events import MANIFEST
from latchflow.store.gates import rule_of


@dataclass(frozen=True, kw_only=True)
class FiringTrigger:
    """A trigger definition under the lock of a dispatch.

    Attributes:
        fresh_id: A new UUIDv7 for an event without a dedupe key.
        now: The database's clock at the start of the transaction.
        rule: What the gate decides by.
    """

    id: UUID
    name: str
    is_enabled: bool
    plugin: str
    capability_key: str
    fresh_id: UUID
    now: datetime
    rule: Rule


@dataclass(frozen=True, kw_only=True)
class KnownKey:
    """An event that a dedupe key already stands for."""

    event_id: UUID
    body_hash: bytes | None


@dataclass(frozen=True, kw_only=True)
class NewEvent:
    """An event to open; closed at once when its manifest owes nothing, or the gate skips it.

    Attributes:
        pipelines: What the manifest was made of, in the same order.
        decision: The gate's; None when nothing was owed.
        rerun_of: The event that it repeats.
    """

    manifest: Manifest
    pipelines: Sequence[PipelineInForce]
    fired_at: datetime
    scheduled_for: datetime | None
    metadata: dict[str, Any]
    invoker: str | None
    context_sealed: bytes
    decision: Decision | None = None
    rerun_of: UUID | None = None


async def lock_trigger(connection: Connection, trigger_id: UUID) -> FiringTrigger | None:
    """The trigger, held against change until the transaction ends; other dispatches of it go on."""
    row = await (
        await connection.execute(
            """
            SELECT t.id, t.name, t.is_enabled, p.name AS plugin, c.key AS capability_key, uuidv7() AS fresh_id, now(),
                   t.overlap, t.max_running_events, d.is_paused
            FROM deployment d CROSS JOIN trigger_definitions t
            JOIN capabilities c ON c.id = t.capability_id JOIN plugins p ON p.id = c.plugin_id
            WHERE t.id = %s FOR SHARE OF t
            """,
            (trigger_id,),
        )
    ).fetchone()
    return FiringTrigger(rule=rule_of(row), **row) if row else None


async def fresh_id(connection: Connection) -> tuple[UUID, datetime]:
    """A new UUIDv7, and the database's clock at the start of the transaction."""
    row = await (await connection.execute("SELECT uuidv7() AS id, now()")).fetchone()
    assert row is not None  # noqa: S101 - it names no table
    return row["id"], row["now"]


async def claim_key(
    connection: Connection, trigger_id: UUID, key_hash: bytes, event_id: UUID, body_hash: bytes | None
) -> KnownKey | None:
    """Take a dedupe key for an event; waits for a concurrent claim of the same key.

    Returns:
        None when the key is ours now, else the event it already stands for, whose deliveries are counted up.
    """
    claimed = await connection.execute(
        """
        INSERT INTO event_keys (trigger_id, key_hash, event_id, body_hash) VALUES (%s, %s, %s, %s)
        ON CONFLICT DO NOTHING
        """,
        (trigger_id, key_hash, event_id, body_hash),
    )
    if claimed.rowcount == 1:
        return None
    row = await (
        await connection.execute(
            "SELECT event_id, body_hash FROM event_keys WHERE trigger_id = %s AND key_hash = %s",
            (trigger_id, key_hash),
        )
    ).fetchone()
    assert row is not None  # noqa: S101 - the insert met it
    await connection.execute("UPDATE events SET deliveries = deliveries + 1 WHERE id = %s", (row["event_id"],))
    return KnownKey(**row)


async def pipelines_in_force(connection: Connection, trigger_id: UUID) -> list[PipelineInForce]:
    """The enabled pipelines attached to a trigger, in their order."""
    rows = await (
        await connection.execute(
            """
            SELECT p.id AS pipeline_id, p.name AS pipeline_name, p.version AS pipeline_version,
                   s.id, s.name, s.sort_order, s.is_enabled, s.kind, s.on_failure, s.when_expression AS "when", s.input,
                   s.retry_policy, s.timeout_seconds, s.for_each_expression AS for_each, s.max_parallel, s.wait,
                   s.is_failure_step, s.action_id, a.version AS action_version, a.name AS action_name,
                   coalesce(a.is_enabled, true) AS is_action_enabled, a.retry_policy AS action_retry_policy,
                   a.timeout_seconds AS action_timeout_seconds, pl.name AS plugin, c.key AS capability_key,
                   coalesce(c.is_inline, false) AS is_inline
            FROM pipeline_triggers pt
            JOIN pipelines p ON p.id = pt.pipeline_id
            LEFT JOIN pipeline_steps s ON s.pipeline_id = p.id
            LEFT JOIN action_definitions a ON a.id = s.action_id
            LEFT JOIN capabilities c ON c.id = a.capability_id LEFT JOIN plugins pl ON pl.id = c.plugin_id
            WHERE pt.trigger_id = %s AND pt.is_enabled AND p.is_enabled
            ORDER BY pt.sort_order, p.name, s.is_failure_step, s.sort_order, s.name
            """,
            (trigger_id,),
        )
    ).fetchall()
    found = []
    for _, group in groupby(rows, key=lambda row: row["pipeline_id"]):
        members = list(group)
        head = {name: members[0].pop(f"pipeline_{name}") for name in ("id", "name", "version")}
        for row in members[1:]:
            for name in head:
                del row[f"pipeline_{name}"]
        steps = tuple(StepInForce(**row) for row in members if row["id"] is not None)
        found.append(PipelineInForce(**head, steps=steps))
    return found


async def tried_out(connection: Connection, action_id: UUID) -> PipelineInForce | None:
    """What the test run of an action owes: one step, whose payload is not evaluated; None when there is no action.

    A disabled action may be tried out, too.
    """
    row = await (
        await connection.execute(
            """
            SELECT a.id, a.name, a.id AS action_id, a.version AS action_version, a.name AS action_name,
                   a.retry_policy AS action_retry_policy, a.timeout_seconds AS action_timeout_seconds,
                   p.name AS plugin, c.key AS capability_key, c.is_inline
            FROM action_definitions a
            JOIN capabilities c ON c.id = a.capability_id JOIN plugins p ON p.id = c.plugin_id
            WHERE a.id = %s FOR SHARE OF a
            """,
            (action_id,),
        )
    ).fetchone()
    if row is None:
        return None
    step = StepInForce(
        **row,
        sort_order=0,
        is_enabled=True,
        is_action_enabled=True,
        kind="action",
        on_failure="stop",
        when=None,
        input={},
        retry_policy=None,
        timeout_seconds=None,
    )
    return PipelineInForce(id=TEST_RUN_ID, name=TEST_RUN_NAME, version=step.action_version or 1, steps=(step,))


async def insert_event(connection: Connection, event: NewEvent) -> None:
    """Open an event with its runs and invocations."""
    manifest, decision = event.manifest, event.decision
    is_owed = bool(manifest.runs)
    await connection.execute(
        """
        INSERT INTO events (id, trigger_id, trigger_name, status, scheduled_for, metadata, invoker, context_sealed,
                            manifest, workflow_id, fired_at, closed_at, closed_by, closed_reason, gate_verdict,
                            gate_reason, is_waiting, rerun_of)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            manifest.event_id,
            manifest.trigger_id,
            manifest.trigger_name,
            EventStatus.PENDING if is_owed else EventStatus.IGNORED,
            event.scheduled_for,
            Jsonb(event.metadata),
            event.invoker,
            event.context_sealed,
            Jsonb(MANIFEST.dump_python(manifest, mode="json")),
            event_workflow_id(manifest.event_id) if is_owed else None,
            event.fired_at,
            None if is_owed else event.fired_at,
            None if is_owed else "dispatch",
            None if is_owed else _why_ignored(decision),
            decision.verdict if decision else None,
            decision.reason if decision else None,
            decision is not None and decision.verdict is Verdict.WAIT,
            event.rerun_of,
        ),
    )
    if is_owed:
        await _insert_runs(connection, event)


def _why_ignored(decision: Decision | None) -> str:
    if decision is None:
        return "No enabled pipeline was attached to the trigger."
    return f"Skipped: an event of the trigger had not ended when this one came (overlap: {decision.reason})."


async def _insert_runs(connection: Connection, event: NewEvent) -> None:
    manifest = event.manifest
    async with connection.cursor() as cursor:
        await cursor.executemany(
            """
            INSERT INTO runs (id, event_id, pipeline_id, pipeline_name, ordinal, status)
            VALUES (%s, %s, %s, %s, %s, 'PENDING')
            """,
            [
                (run.run_id, manifest.event_id, run.pipeline_id, run.pipeline_name, ordinal)
                for ordinal, run in enumerate(manifest.runs)
            ],
        )
        await cursor.executemany(
            """
            INSERT INTO invocations (id, event_id, run_id, step_id, step_name, ordinal, kind, action_id, action_version,
                                     plugin, capability_key, when_expression, input_template, for_each_expression, wait,
                                     task_queue, status)
            VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 'PENDING')
            """,
            [
                (
                    step.invocation_id,
                    manifest.event_id,
                    run.run_id,
                    step.step_id,
                    step.name,
                    ordinal,
                    step.kind,
                    step.action_id,
                    step.action_version,
                    step.plugin,
                    step.capability_key,
                    source.when,
                    Jsonb(source.input) if source.input is not None else None,
                    source.for_each,
                    Jsonb(source.wait) if source.wait is not None else None,
                    step.task_queue,
                )
                for run, pipeline in zip(manifest.runs, event.pipelines, strict=True)
                for ordinal, (step, source) in enumerate(zip(run.every_step, pipeline.steps, strict=True))
            ],
        )

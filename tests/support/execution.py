"""A deployment without its programs: a database, definitions in it, and what every event must satisfy at its end."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

from psycopg.types.json import Jsonb

from latchflow.crypto import Keyring
from latchflow.model import Manifest
from latchflow.names import capability_id, plugin_id
from latchflow.settings import Settings
from latchflow.store import places
from latchflow.store.database import Database
from latchflow.temporal.dispatch import Dispatcher, Firing
from tests.support.postgres import TestDatabase
from tests.support.registries import NAME

FAKE_KEY = "fake:" + base64.b64encode(b"only for tests: not a secret key").decode()
"""The committed histories are sealed with it."""

_ENDINGS = {"SUCCEEDED", "RETRYING", "WAITING", "FAILED", "FAILED_PERMANENT", "TIMED_OUT", "CANCELLED"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step to define; of an action, with a definition of its own."""

    name: str
    action: str = ""
    sort_order: int = 0
    on_failure: str = "stop"
    is_enabled: bool = True
    when: str | None = None
    input: Mapping[str, Any] | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    retry_policy: Mapping[str, Any] | None = None
    timeout_seconds: int | None = None
    on_unknown: str = "fail"
    kind: str = "action"
    for_each: str | None = None
    max_parallel: int | None = None
    wait: Mapping[str, Any] | None = None
    is_failure_step: bool = False


class Starts:
    """A starter that keeps what it is told to start, and fails on demand."""

    def __init__(self) -> None:
        self.started: list[UUID] = []
        self.cancelled: list[UUID] = []
        self.failure: Exception | None = None
        self.refused: dict[UUID, Exception] = {}

    async def start(self, manifest: Manifest) -> None:
        failure = self.failure or self.refused.get(manifest.event_id)
        if failure is not None:
            raise failure
        self.started.append(manifest.event_id)

    async def cancel(self, event_id: UUID) -> bool:
        if self.failure is not None:
            raise self.failure
        self.cancelled.append(event_id)
        return event_id in self.started


class Deployment:
    """One database with its keyring."""

    def __init__(self, urls: TestDatabase, database: Database) -> None:
        self.urls = urls
        self.database = database
        self.keyring = Keyring.from_setting(FAKE_KEY)

    async def rows(self, statement: str, *values: object) -> list[dict[str, Any]]:
        """Run a statement as the application."""
        async with self.database.connection() as connection:
            cursor = await connection.execute(statement.encode(), values)
            return await cursor.fetchall() if cursor.description else []

    async def define(self, *pipelines: Sequence[Step], is_enabled: bool = True) -> UUID:
        """A trigger with pipelines of these steps.

        Returns:
            The trigger's id.
        """
        await self._define_capabilities({step.action for steps in pipelines for step in steps if step.action})
        trigger_id = uuid4()
        await self.rows(
            "INSERT INTO trigger_definitions VALUES (%s, %s, %s, %s, %s, 1)",
            trigger_id,
            f"trigger {trigger_id}",
            capability_id(NAME, "TRIGGER", "inbound"),
            self.keyring.seal_json({}, places.trigger_config(trigger_id, NAME)),
            is_enabled,
        )
        for position, steps in enumerate(pipelines):
            await self._define_pipeline(trigger_id, position, steps)
        return trigger_id

    async def _define_capabilities(self, actions: Iterable[str]) -> None:
        await self.rows(
            """
            INSERT INTO plugins (id, name, display_name, version, status, scopes, granted_scopes, code_hash)
            VALUES (%s, %s, 'Testing', '1.0.0', 'ENABLED', '{}', '{}', 'c0de') ON CONFLICT DO NOTHING
            """,
            plugin_id(NAME),
            NAME,
        )
        for kind, key in [("TRIGGER", "inbound"), *(("ACTION", key) for key in actions)]:
            await self.rows(
                """
                INSERT INTO capabilities (id, plugin_id, kind, key, display_name, config_schema, scopes)
                VALUES (%s, %s, %s, %s, 'Testing', '{}', '{}') ON CONFLICT DO NOTHING
                """,
                capability_id(NAME, kind, key),
                plugin_id(NAME),
                kind,
                key,
            )

    async def _define_pipeline(self, trigger_id: UUID, position: int, steps: Sequence[Step]) -> None:
        pipeline_id = uuid4()
        await self.rows(
            "INSERT INTO pipelines VALUES (%s, %s, '', true, 1)", pipeline_id, f"pipeline {position} of {trigger_id}"
        )
        await self.rows("INSERT INTO pipeline_triggers VALUES (%s, %s, %s)", pipeline_id, trigger_id, position)
        for step in steps:
            action_id = await self._define_action(step) if step.kind == "action" else None
            await self.rows(
                "INSERT INTO pipeline_steps VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
                uuid4(),
                pipeline_id,
                step.name,
                step.kind,
                action_id,
                step.sort_order,
                step.is_enabled,
                step.when,
                Jsonb(dict(step.input)) if step.input is not None else None,
                step.on_failure,
                Jsonb(dict(step.retry_policy)) if step.retry_policy is not None else None,
                step.timeout_seconds,
                step.for_each,
                step.max_parallel,
                Jsonb(dict(step.wait)) if step.wait is not None else None,
                step.is_failure_step,
            )

    async def _define_action(self, step: Step) -> UUID:
        action_id = uuid4()
        config = self.keyring.seal_json(dict(step.config), places.action_config(action_id, NAME))
        await self.rows(
            "INSERT INTO action_definitions VALUES (%s, %s, %s, %s, true, NULL, NULL, 1)",
            action_id,
            f"action {action_id}",
            capability_id(NAME, "ACTION", step.action),
            config,
        )
        await self.rows(
            "INSERT INTO action_versions (action_id, version, config_sealed, on_unknown) VALUES (%s, 1, %s, %s)",
            action_id,
            config,
            step.on_unknown,
        )
        return action_id

    async def open_event(self, *pipelines: Sequence[Step], context: Mapping[str, Any] | None = None) -> UUID:
        """An event of a new trigger, as dispatch leaves it; its start is confirmed, and no workflow runs."""
        dispatcher = Dispatcher(self.database, self.keyring, Starts())
        trigger_id = await self.define(*pipelines)
        accepted = await dispatcher.dispatch(Firing(trigger_id=trigger_id, context=context or {}))
        await dispatcher.close()
        return accepted.event_id

    async def event(self, event_id: UUID) -> dict[str, Any]:
        """The event's row."""
        (row,) = await self.rows("SELECT * FROM events WHERE id = %s", event_id)
        return row

    async def steps(self, event_id: UUID) -> dict[str, dict[str, Any]]:
        """The invocations' rows, by the name of their step."""
        rows = await self.rows(
            "SELECT * FROM invocations WHERE event_id = %s AND item_index IS NULL ORDER BY ordinal", event_id
        )
        return {row["step_name"]: row for row in rows}

    async def items(self, event_id: UUID, step: str) -> list[dict[str, Any]]:
        """The rows of the items of a ``forEach`` step, in their order."""
        return await self.rows(
            "SELECT * FROM invocations WHERE event_id = %s AND step_name = %s AND item_index IS NOT NULL "
            "ORDER BY item_index",
            event_id,
            step,
        )

    async def statuses(self, event_id: UUID) -> dict[str, str]:
        """The status of each step."""
        return {name: row["status"] for name, row in (await self.steps(event_id)).items()}

    async def output(self, event_id: UUID, step: str) -> Any:
        """What a step put out."""
        row = (await self.steps(event_id))[step]
        return self.keyring.open_json(row["output_sealed"], places.invocation_output(row["id"]))

    async def phases(self, event_id: UUID, step: str) -> list[str]:
        """The phases in the audit of a step, in their order."""
        rows = await self.rows(
            """
            SELECT a.phase FROM audit_entries a JOIN invocations i ON i.id = a.invocation_id
            WHERE i.event_id = %s AND i.step_name = %s AND a.kind = 'action' ORDER BY a.seq
            """,
            event_id,
            step,
        )
        return [row["phase"] for row in rows]

    async def check_accounts(self, event_id: UUID) -> None:
        """Nothing of a closed event is in limbo: every attempt that started has exactly one ending, and so on up."""
        event = await self.event(event_id)
        assert event["closed_at"] is not None, f"the event is open: {event['status']}"
        assert event["status"] not in ("PENDING", "RUNNING")
        runs = await self.rows("SELECT * FROM runs WHERE event_id = %s", event_id)
        assert all(run["closed_at"] and run["status"] not in ("PENDING", "RUNNING") for run in runs)
        for row in await self.rows("SELECT * FROM invocations WHERE event_id = %s", event_id):
            name = f"{row['step_name']}[{row['item_index']}]"
            assert row["ended_at"] is not None, f"step {name} has no ending: {row['status']}"
            assert row["next_attempt_at"] is None, f"step {name} announces another attempt"
            await self._check_attempts(name, row)
        opened = await self.rows(
            "SELECT phase FROM audit_entries WHERE trigger_event_id = %s AND kind = 'trigger' AND phase = 'SUCCEEDED'",
            event_id,
        )
        assert len(opened) == 1

    async def _check_attempts(self, name: str, invocation: Mapping[str, Any]) -> None:
        entries = await self.rows(
            "SELECT attempt, phase FROM audit_entries WHERE invocation_id = %s AND kind = 'action' ORDER BY seq",
            invocation["id"],
        )
        attempts = await self.rows(
            "SELECT number, phase, ended_at FROM attempts WHERE invocation_id = %s ORDER BY number", invocation["id"]
        )
        for attempt in attempts:
            phases = [entry["phase"] for entry in entries if entry["attempt"] == attempt["number"]]
            endings = [phase for phase in phases if phase in _ENDINGS]
            where = f"attempt {attempt['number']} of {name}: {phases}"
            assert phases[0] == "STARTED", where
            assert phases.count("STARTED") == 1, where
            assert endings == [attempt["phase"]], where
            assert attempt["ended_at"] is not None, where
        numbers = [attempt["number"] for attempt in attempts]
        assert numbers == list(range(1, len(numbers) + 1)), f"{name} has attempts {numbers}"
        assert {entry["attempt"] for entry in entries} <= {None, *numbers}, f"{name}: an entry without its attempt"


def settings_of(urls: TestDatabase) -> Settings:
    """The settings of a program that uses this database."""
    return Settings.model_validate({"DATABASE_URL": urls.url, "ENCRYPTION_KEY": FAKE_KEY, "DATABASE_POOL_SIZE": 30})

"""Attempts at one invocation as a worker makes them: claimed in Postgres, guarded, ended; without Temporal."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from activities.recording import Recorder
from activities.service_records import ServiceRecords
from latchflow.model import InvocationStatus, Phase
from latchflow.runtime.guard import Backends, Grant, GuardedServices
from latchflow.store import attempts
from latchflow.store.attempts import AttemptKey, Ending, Runner
from tests.support.execution import Deployment, Step

SCOPES = frozenset({"email:send"})
_ENDINGS = {
    "RETRYING": InvocationStatus.RETRYING,
    "SUCCEEDED": InvocationStatus.SUCCEEDED,
    "FAILED_PERMANENT": InvocationStatus.FAILED_PERMANENT,
}


class Attempt:
    """One claimed attempt."""

    def __init__(self, invocation: "Invocation", row: attempts.Task, key: AttemptKey, number: int, code: str) -> None:
        self._invocation = invocation
        self._row = row
        self._key = key
        self.number = number
        deployment = invocation.deployment
        self.records = ServiceRecords(
            Recorder(deployment.database), deployment.keyring, row, number=number, code_hash=code
        )
        self.grant = Grant(
            granted_scopes=SCOPES,
            capability_scopes=SCOPES,
            idempotency_key=str(row.invocation_id),
            records=self.records,
            host_loop=asyncio.get_running_loop(),
            deadline=datetime.now(UTC) + timedelta(seconds=30),
            resends_unknown=row.on_unknown == "resend",
        )

    @property
    def invocation_id(self) -> UUID:
        """What it is an attempt at."""
        return self._row.invocation_id

    def services(self, backends: Backends) -> GuardedServices:
        """What the plugin gets."""
        return GuardedServices(backends, self.grant, actor="acme-testing/act")

    async def end(self, phase: str) -> bool:
        """Record its ending."""
        ending = Ending(phase=Phase(phase), status=_ENDINGS[phase])
        async with self._invocation.deployment.database.connection() as connection:
            return await attempts.end(connection, self._row, self._key, ending, number=self.number)


class Invocation:
    """One invocation."""

    def __init__(self, deployment: Deployment, invocation_id: UUID) -> None:
        self.deployment = deployment
        self.id = invocation_id

    @classmethod
    async def open(cls, deployment: Deployment, *, on_unknown: str = "fail") -> "Invocation":
        """The one invocation of a new event."""
        event_id = await deployment.open_event([Step(action="act", name="act", on_unknown=on_unknown)])
        (row,) = (await deployment.steps(event_id)).values()
        return cls(deployment, row["id"])

    async def attempt(self, *, code: str = "c0de") -> Attempt:
        """The next attempt, of a plugin with this code; one that has not ended is lost."""
        async with self.deployment.database.transaction() as connection:
            row = await attempts.load(connection, self.id)
            assert row is not None
            key = AttemptKey(workflow_run_id="run", activity_id=str(self.id), temporal_attempt=row.attempt_number + 1)
            claimed = await attempts.claim(
                connection, row, key, Runner(worker="worker@test", plugin_version="1.0.0", code_hash=code)
            )
        assert claimed is not None
        return Attempt(self, row, key, claimed.number, code)

    async def effects(self) -> list[dict[str, Any]]:
        """What is on record of its effects."""
        return await self.deployment.rows(
            "SELECT service, ordinal, state, via, attempt FROM effects WHERE invocation_id = %s ORDER BY ordinal",
            self.id,
        )

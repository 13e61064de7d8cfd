"""Attempts at one invocation with the real records: their service calls go through the guard into Postgres."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from activities.recording import Recorder
from activities.service_records import ServiceRecords
from latchflow.crypto import Keyring
from latchflow.runtime.guard import Backends, Grant, GuardedServices
from latchflow.store import attempts
from latchflow.store.attempts import AttemptKey, Runner, Task
from latchflow.store.database import Database

_RUNNER = Runner(worker="1@here", plugin_version="1.0.0", code_hash="c0de")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One claimed attempt."""

    services: GuardedServices
    grant: Grant


@dataclass(frozen=True, kw_only=True)
class Attempts:
    """The attempts at one invocation."""

    database: Database
    keyring: Keyring
    invocation_id: UUID

    async def begin(self, backends: Backends, scopes: Sequence[str], *, resends_unknown: bool = False) -> Attempt:
        """Claim the next attempt, whatever became of the one before."""
        async with self.database.transaction() as connection:
            row = await attempts.load(connection, self.invocation_id)
            assert row is not None
            key = AttemptKey(
                workflow_run_id="run", activity_id=str(self.invocation_id), temporal_attempt=row.attempt_number + 1
            )
            claimed = await attempts.claim(connection, row, key, _RUNNER)
        assert claimed is not None
        return self.of(row, claimed.number, backends, scopes, resends_unknown=resends_unknown)

    def of(
        self, row: Task, number: int, backends: Backends, scopes: Sequence[str], *, resends_unknown: bool = False
    ) -> Attempt:
        """The services of an attempt that was claimed."""
        grant = Grant(
            granted_scopes=frozenset(scopes),
            capability_scopes=frozenset(scopes),
            idempotency_key=str(self.invocation_id),
            records=ServiceRecords(Recorder(self.database), self.keyring, row, number=number, code_hash="c0de"),
            host_loop=asyncio.get_running_loop(),
            deadline=datetime.now(UTC) + timedelta(seconds=30),
            resends_unknown=resends_unknown,
        )
        return Attempt(services=GuardedServices(backends, grant, actor="acme-testing/act"), grant=grant)

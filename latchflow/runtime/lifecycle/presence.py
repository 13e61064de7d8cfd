"""A process reports itself and what it runs: at once when that changes, and every five seconds."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

import latchflow
from latchflow.errors import UnavailableError
from latchflow.runtime.isolation.strain import STRAIN
from latchflow.runtime.lifecycle.live import LiveRegistry
from latchflow.runtime.tasks import end_task
from latchflow.store import processes
from latchflow.store.database import Database
from latchflow.store.processes import Instance

_REPORT_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class ProcessIdentity:
    """This process, as Temporal, the attempts and the health answer name it."""

    id: UUID
    host: str
    pid: int

    @classmethod
    def of_this_process(cls) -> "ProcessIdentity":
        """Made once per process."""
        return cls(id=uuid4(), host=socket.gethostname(), pid=os.getpid())

    def __str__(self) -> str:
        return f"{self.pid}@{self.host}"


@asynccontextmanager
async def present(
    database: Database, me: ProcessIdentity, role: str, live: LiveRegistry, *, plugin: str | None = None
) -> AsyncIterator[None]:
    """Be listed while the block runs, with what plugins have cost this process.

    Args:
        database: Where.
        me: This process.
        role: ``worker`` or ``api``.
        live: What it runs.
        plugin: The one plugin that a dedicated worker is for.
    """
    await _report(database, me, role, live, plugin)
    task = asyncio.create_task(_keep_reporting(database, me, role, live, plugin))
    try:
        yield
    finally:
        await end_task(task)
        with suppress(UnavailableError):
            async with database.connection() as connection:
                await processes.forget(connection, me.id)


async def _keep_reporting(
    database: Database, me: ProcessIdentity, role: str, live: LiveRegistry, plugin: str | None
) -> None:
    while True:
        await live.until_changed(within_seconds=_REPORT_SECONDS)
        with suppress(UnavailableError):
            await _report(database, me, role, live, plugin)


async def _report(database: Database, me: ProcessIdentity, role: str, live: LiveRegistry, plugin: str | None) -> None:
    stats = {**STRAIN.report(), "dedicatedPlugin": plugin}
    instances = list(_instances(live))
    async with database.transaction() as connection:
        await processes.report(
            connection,
            process_id=me.id,
            role=role,
            host=me.host,
            pid=me.pid,
            version=latchflow.__version__,
            stats=stats,
        )
        await processes.report_plugins(connection, process_id=me.id, instances=instances)


def _instances(live: LiveRegistry) -> Iterator[Instance]:
    """A plugin that runs in an old version while the new one fails is reported with what runs, and the error."""
    for name, plugin in live.snapshot.plugins.items():
        failure = live.failures.get(name)
        yield Instance(
            name=name,
            version=plugin.version,
            code_hash=plugin.code_hash,
            state="failed" if failure else "loaded",
            error=failure.error if failure else None,
            stats=plugin.stats.as_json(),
        )
    for name, failure in live.failures.items():
        if name not in live.snapshot.plugins:
            yield Instance(
                name=name, version=failure.version, code_hash=failure.code_hash, state="failed", error=failure.error
            )

"""A process reports itself and what it has loaded, every five seconds."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

import latchflow
from latchflow.errors import UnavailableError
from latchflow.runtime.registry import Registry
from latchflow.runtime.strain import STRAIN
from latchflow.store import processes
from latchflow.store.database import Database

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
    database: Database, me: ProcessIdentity, role: str, registry: Registry, *, plugin: str | None = None
) -> AsyncIterator[None]:
    """Be listed while the block runs, with what plugins have cost this process.

    Args:
        database: Where.
        me: This process.
        role: ``worker`` or ``api``.
        registry: What it has loaded.
        plugin: The one plugin that a dedicated worker is for.
    """
    await _report(database, me, role, registry, plugin)
    task = asyncio.create_task(_keep_reporting(database, me, role, registry, plugin))
    try:
        yield
    finally:
        task.cancel()
        with suppress(UnavailableError):
            async with database.connection() as connection:
                await processes.forget(connection, me.id)


async def _keep_reporting(
    database: Database, me: ProcessIdentity, role: str, registry: Registry, plugin: str | None
) -> None:
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        with suppress(UnavailableError):
            await _report(database, me, role, registry, plugin)


async def _report(database: Database, me: ProcessIdentity, role: str, registry: Registry, plugin: str | None) -> None:
    stats = {**STRAIN.report(), "dedicatedPlugin": plugin}
    async with database.transaction() as connection:
        is_new = await processes.report(
            connection,
            process_id=me.id,
            role=role,
            host=me.host,
            pid=me.pid,
            version=latchflow.__version__,
            stats=stats,
        )
        if is_new:
            plugins = [(plugin.name, plugin.version, plugin.code_hash) for plugin in registry.plugins.values()]
            await processes.report_plugins(connection, process_id=me.id, plugins=plugins)

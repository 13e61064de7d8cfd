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
async def present(database: Database, me: ProcessIdentity, role: str, registry: Registry) -> AsyncIterator[None]:
    """Be listed while the block runs."""
    await _report(database, me, role, registry)
    task = asyncio.create_task(_keep_reporting(database, me, role, registry))
    try:
        yield
    finally:
        task.cancel()
        with suppress(UnavailableError):
            async with database.connection() as connection:
                await processes.forget(connection, me.id)


async def _keep_reporting(database: Database, me: ProcessIdentity, role: str, registry: Registry) -> None:
    while True:
        await asyncio.sleep(_REPORT_SECONDS)
        with suppress(UnavailableError):
            await _report(database, me, role, registry)


async def _report(database: Database, me: ProcessIdentity, role: str, registry: Registry) -> None:
    async with database.transaction() as connection:
        is_new = await processes.report(
            connection, process_id=me.id, role=role, host=me.host, pid=me.pid, version=latchflow.__version__
        )
        if is_new:
            plugins = [(plugin.name, plugin.version, plugin.code_hash) for plugin in registry.plugins.values()]
            await processes.report_plugins(connection, process_id=me.id, plugins=plugins)

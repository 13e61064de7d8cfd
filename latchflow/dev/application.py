"""The programs of the application root, API and workers, and how one sees that they are ready."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import httpx2

from latchflow.dev.program import Program
from latchflow.errors import ConfigurationError

_POLL_SECONDS = 0.05
_READY_SECONDS = 60.0
# A worker gives the actions in progress time to end, so it gets the most.
_WORKER_STOP_SECONDS = 15.0


def api_program(root: Path, env: Mapping[str, str]) -> Program:
    """The API."""
    return Program(name="api", argv=[sys.executable, "-m", "api"], env=env, cwd=root, is_echoed=True)


def worker_program(name: str, root: Path, env: Mapping[str, str], *, plugin: str | None = None) -> Program:
    """One worker process; of one plugin only, when that has workers of its own."""
    argv = [sys.executable, "worker.py", *(("--plugin", plugin) if plugin is not None else ())]
    return Program(name=name, argv=argv, env=env, cwd=root, is_echoed=True, stop_seconds=_WORKER_STOP_SECONDS)


class Readiness:
    """Asks the parts whether they are ready.

    Args:
        client: Must not take proxies from the environment.
        log_dir: Named when a part stays silent.
    """

    def __init__(self, client: httpx2.AsyncClient, log_dir: Path) -> None:
        self._client = client
        self._log_dir = log_dir

    async def of_url(self, name: str, url: str) -> None:
        """Wait until a URL answers 200."""

        async def is_ready() -> bool:
            return await self._get(url) is not None

        await self._until(name, is_ready)

    async def of_workers(self, api_url: str, token: str, pids: Callable[[], Iterable[int | None]]) -> None:
        """Wait until the API knows each worker process, and has a verdict about every plugin."""
        url = f"{api_url}/system/plugin-runtime/health"

        async def is_ready() -> bool:
            health = await self._get(url, {"Authorization": f"Bearer {token}"})
            return health is not None and _covers(health, set(pids()))

        await self._until("worker", is_ready)

    async def _until(self, name: str, is_ready: Callable[[], Awaitable[bool]]) -> None:
        try:
            async with asyncio.timeout(_READY_SECONDS):
                while not await is_ready():  # noqa: ASYNC110 -- the other side of HTTP sets no event
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            raise ConfigurationError(
                f"{name} was not ready within {_READY_SECONDS:g} s. Its log tells more: {self._log_dir}/{name}*.log"
            ) from None

    async def _get(self, url: str, headers: Mapping[str, str] | None = None) -> Any:
        try:
            answer = await self._client.get(url, headers=headers)
            return answer.json() if answer.status_code == 200 else None
        except (httpx2.HTTPError, ValueError):
            return None


def _covers(health: Any, pids: set[int | None]) -> bool:
    processes = health.get("processes", [])
    known = {process.get("pid") for process in processes if process.get("role") == "worker"}
    return pids <= known and all(plugin.get("status") for plugin in health.get("plugins", []))

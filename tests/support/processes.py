"""Processes of one deployment, as far as plugins go, inside a test's own process."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from latchflow.runtime.lifecycle.presence import ProcessIdentity, present
from latchflow.runtime.lifecycle.running import RunningPlugins, running_plugins
from latchflow.settings import Settings
from tests.support.execution import Deployment


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where the processes of a test find plugins."""

    home: Path
    plugins: Path
    cache: Path

    @classmethod
    def below(cls, root: Path) -> "Folders":
        """A home without plugins of its own, and one folder of plugins."""
        folders = cls(home=root / "home", plugins=root / "plugins", cache=root / "copies")
        folders.plugins.mkdir()
        return folders


@asynccontextmanager
async def process(
    deployment: Deployment,
    folders: Folders,
    *,
    role: str = "worker",
    auto_enable: bool = True,
    reloads: bool = False,
    watches: bool = False,
    path: str | None = None,
    only: str | None = None,
) -> AsyncIterator[RunningPlugins]:
    """One process: it installs, loads, follows and reports until the block ends."""
    settings = Settings.model_validate(
        {
            "PLUGINS_PATH": str(folders.plugins) if path is None else path,
            "PLUGIN_AUTO_ENABLE": auto_enable,
            "PLUGIN_HOT_RELOAD": reloads,
            "LATCHFLOW_PLUGIN_CACHE_DIR": folders.cache,
        }
    )
    async with (
        running_plugins(
            deployment.database, deployment.keyring, settings, home=folders.home, watches=watches, only=only
        ) as plugins,
        present(deployment.database, ProcessIdentity.of_this_process(), role, plugins.live),
    ):
        yield plugins


async def until(is_so: Callable[[], bool | Awaitable[bool]], *, seconds: float = 15) -> None:
    """Wait until something is so that sets no event."""
    async with asyncio.timeout(seconds):
        while True:
            answer = is_so()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.02)

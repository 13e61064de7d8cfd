"""The plugins of one process, from its start to its end."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from latchflow.crypto import Keyring
from latchflow.runtime.lifecycle.following import Follower
from latchflow.runtime.lifecycle.hot_reload import hot_reload
from latchflow.runtime.lifecycle.installing import Installer, PluginFolders
from latchflow.runtime.lifecycle.live import LiveRegistry
from latchflow.runtime.lifecycle.sweep import sweep
from latchflow.runtime.loader.copies import Copies
from latchflow.settings import Settings
from latchflow.store.database import Database


@dataclass(frozen=True, kw_only=True)
class RunningPlugins:
    """What a process runs, and the parts that keep it up to date.

    Attributes:
        live: Read its `snapshot` once per call.
    """

    live: LiveRegistry
    installer: Installer
    follower: Follower


@asynccontextmanager
async def running_plugins(
    database: Database,
    keyring: Keyring,
    settings: Settings,
    *,
    home: Path,
    watches: bool = False,
    only: str | None = None,
) -> AsyncIterator[RunningPlugins]:
    """Bring the catalog up to date, load what is enabled, and follow while the block runs; then dispose of everything.

    Args:
        database: Where the catalog is.
        keyring: Opens the configs that a newer version has to take.
        settings: Names the folders.
        home: The application root.
        watches: This process watches the folders when hot reload is on.
        only: Run no plugin but the one of this name, and those that bring providers, which services need.

    Raises:
        UnavailableError: The database is away.
    """
    folders = PluginFolders(
        home=home,
        plugins_path=settings.plugins_path,
        enables_all=settings.plugin_auto_enable,
        copies=Copies.at(settings.plugin_cache_dir),
    )
    installer, live = Installer(database, folders), LiveRegistry()
    follower = Follower(database, live, installer, is_reloading=settings.plugin_hot_reload, only=only)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(live.close)
        stack.push_async_callback(installer.close)
        await installer.install(only=only)
        await follower.follow()
        await stack.enter_async_context(follower.following(lambda: sweep(database, keyring, live)))
        if settings.plugin_hot_reload and watches:
            await stack.enter_async_context(hot_reload(installer))
        yield RunningPlugins(live=live, installer=installer, follower=follower)

"""Making what a process runs follow the catalog."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

import structlog

from latchflow.errors import UnavailableError
from latchflow.runtime.contract import ContractError
from latchflow.runtime.lifecycle.installing import Installer
from latchflow.runtime.lifecycle.live import LiveRegistry, LoadFailure
from latchflow.runtime.lifecycle.registry import Registry
from latchflow.runtime.loader.copies import CopyError
from latchflow.runtime.loader.discovery import PluginSource
from latchflow.runtime.loader.loading import LoadError
from latchflow.runtime.tasks import end_task
from latchflow.store import plugin_catalog
from latchflow.store.database import Database
from latchflow.store.plugin_catalog import CatalogPlugin

_POLL_SECONDS = 2.0
_SEARCH_SECONDS = 10.0
_IMPORT_SECONDS = 10.0
_READ_SECONDS = 10.0

ResultT = TypeVar("ResultT")
AfterFollowing = Callable[[], Awaitable[None]]

log = structlog.get_logger(__name__)


class Follower:
    """Loads what is enabled, takes out what is disabled, and grants what is granted, in one process.

    A plugin is loaded only from a folder that holds exactly the checked code. A loaded version is replaced by a newer
    one only under hot reload; else by a restart, and until then the process is reported with the version it runs.

    Args:
        database: Where the catalog is.
        live: What this process runs.
        installer: Finds the plugins' folders.
        is_reloading: Hot reload is on.
        only: Run no plugin but the one of this name, and those that bring providers, which services need.
    """

    def __init__(
        self,
        database: Database,
        live: LiveRegistry,
        installer: Installer,
        *,
        is_reloading: bool,
        only: str | None = None,
    ) -> None:
        self._database = database
        self._live = live
        self._installer = installer
        self._is_reloading = is_reloading
        self._only = only
        self._one_at_a_time = asyncio.Lock()
        self._tried: dict[str, CatalogPlugin] = {}
        self._revived: dict[str, CatalogPlugin] = {}
        self._missed: dict[str, CatalogPlugin] = {}
        self._searched_at = float("-inf")

    async def follow(self) -> None:
        """Compare once, and act.

        Raises:
            UnavailableError: The database is away; what runs goes on.
        """
        async with self._one_at_a_time:
            catalog = await self._catalog()
            for plugin in [plugin for plugin in catalog.values() if self._is_here_after_all(plugin)]:
                self._revived[plugin.name] = plugin
                await self._installer.refresh(only=plugin.name)
                async with self._database.connection() as connection:
                    catalog[plugin.name] = await plugin_catalog.get(connection, plugin.name) or plugin
            for name in self._live.snapshot.plugins.keys() | self._live.failures.keys():
                if name not in catalog or self._is_over(catalog[name]):
                    log.info("plugin taken out", plugin=name)
                    self._tried.pop(name, None)
                    self._live.take_out(name)
            for plugin in catalog.values():
                if plugin.status == "ENABLED":
                    await self._run(plugin)

    async def _catalog(self) -> dict[str, CatalogPlugin]:
        """What is recorded of the plugins that this process may run."""
        try:
            async with asyncio.timeout(_READ_SECONDS), self._database.connection() as connection:
                catalog = await plugin_catalog.load(connection)
                if self._only is not None:
                    wanted = {self._only, *await plugin_catalog.names_with_providers(connection)}
                    catalog = {name: plugin for name, plugin in catalog.items() if name in wanted}
                return catalog
        except TimeoutError:  # a connection whose other end went away without a word
            raise UnavailableError("The database does not answer. Try again shortly.") from None

    @asynccontextmanager
    async def following(self, after: AfterFollowing | None = None) -> AsyncIterator[None]:
        """Follow while the block runs; `after` is called each time."""
        task = asyncio.create_task(self._keep_following(after))
        try:
            yield
        finally:
            await end_task(task)

    async def _keep_following(self, after: AfterFollowing | None) -> None:
        async for _ in plugin_catalog.changes(self._database.url, every_seconds=_POLL_SECONDS):
            try:
                await self.follow()
                if after is not None:
                    await after()
            except UnavailableError:
                continue
            except Exception:
                log.exception("following the catalog of plugins failed; it goes on")

    def _is_here_after_all(self, plugin: CatalogPlugin) -> bool:
        """Whether a process without its folder took it for gone, which this one has, before this one was listed."""
        source = self._installer.known_source(plugin.name)
        is_missing = plugin.status == "FAILED" and plugin.is_wanted and not plugin.code_hash
        return is_missing and source is not None and source.error is None and self._revived.get(plugin.name) != plugin

    def _is_over(self, plugin: CatalogPlugin) -> bool:
        # A version that another process failed to start with does not end one that works here; but under hot reload
        # there is one machine, and a folder that has gone is gone.
        return plugin.status == "DISABLED" or (self._is_reloading and plugin.status != "ENABLED")

    async def _run(self, plugin: CatalogPlugin) -> None:
        name, loaded = plugin.name, self._live.snapshot.plugins.get(plugin.name)
        granted = frozenset(plugin.granted_scopes)
        if loaded is not None and (loaded.code_hash == plugin.code_hash or not self._is_reloading):
            self._live.clear_failure(name)
            self._grant(name, granted)
            return
        if self._live.bring_back(name, plugin.code_hash):
            self._grant(name, granted)
            return
        if self._live.is_leaving(name, plugin.code_hash) or self._tried.get(name) == plugin:
            return  # the next tick finds it gone; what failed is tried again when the catalog says something new
        source = await self._search(plugin)
        if source is None:
            reason = f"No folder that this process knows holds the checked code of {plugin.version}. Bring it here."
            self._fail(plugin, reason)
            return
        self._tried[name] = plugin
        try:
            part = await _in_thread(partial(Registry.load, source, granted, self._installer.folders.copies))
            await self._compare(plugin, part)
        except CopyError as error:
            del self._tried[name]  # its folder changed just now, and may come to hold the checked code
            self._fail(plugin, str(error))
        except UnavailableError:
            del self._tried[name]
            raise
        except (LoadError, ContractError) as error:
            self._fail(plugin, str(error))
        except TimeoutError:
            self._fail(plugin, f"{source.folder}/__init__.py: importing it took longer than {_IMPORT_SECONDS:g} s")
        else:
            del self._tried[name]
            log.info("plugin loaded", plugin=name, version=plugin.version, code_hash=plugin.code_hash[:16])
            self._live.put(part)
            await asyncio.to_thread(self._installer.folders.copies.remove_unused)

    async def _compare(self, plugin: CatalogPlugin, part: Registry) -> None:
        """A plugin may bring something else here than in its check. Raises LoadError."""
        async with self._database.connection() as connection:
            checked = await plugin_catalog.brought(connection, plugin.name, plugin.code_hash)
        if checked is not None and checked != part.capability_names:
            differing = ", ".join(sorted(checked ^ part.capability_names))
            raise LoadError(
                f"{plugin.name} brings other capabilities in this process than in its check: {differing}. What it "
                "brings may not depend on where it is imported."
            )

    def _grant(self, name: str, granted: frozenset[str]) -> None:
        loaded = self._live.snapshot.plugins[name]
        if granted & loaded.declared_scopes != loaded.granted_scopes:
            self._live.grant(name, granted)

    async def _search(self, plugin: CatalogPlugin) -> PluginSource | None:
        source = self._installer.known_source(plugin.name, plugin.code_hash)
        now = asyncio.get_running_loop().time()
        is_new = self._missed.get(plugin.name) != plugin
        if source is None and (is_new or self._is_reloading or now > self._searched_at + _SEARCH_SECONDS):
            self._missed[plugin.name], self._searched_at = plugin, now
            source = await self._installer.find(plugin.name, plugin.code_hash)
        return source

    def _fail(self, plugin: CatalogPlugin, reason: str) -> None:
        failure = LoadFailure(version=plugin.version, code_hash=plugin.code_hash, error=reason)
        if self._live.failures.get(plugin.name) != failure:
            log.error("plugin cannot be loaded in this process", plugin=plugin.name, error=reason)
            self._live.fail(plugin.name, failure)


async def _in_thread(function: Callable[[], ResultT]) -> ResultT:
    """Run it in a thread that nobody waits for at the end: an import may hang.

    Raises:
        TimeoutError: It took too long; the thread goes on alone.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[ResultT] = loop.create_future()

    def settle(result: ResultT | None, error: BaseException | None) -> None:
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        try:
            result, error = function(), None
        except (LoadError, ContractError, CopyError) as known:
            result, error = None, known
        except BaseException as unknown:
            result, error = None, LoadError(f"loading it raised {type(unknown).__name__}")
        with suppress(RuntimeError):  # the loop is closed: the process ends
            loop.call_soon_threadsafe(settle, result, error)

    threading.Thread(target=run, name="plugin import", daemon=True).start()
    return await asyncio.wait_for(future, _IMPORT_SECONDS)

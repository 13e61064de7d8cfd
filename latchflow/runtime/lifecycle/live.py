"""What this process runs now: a snapshot that is replaced whole, and the putting away of what was replaced."""

import asyncio
import gc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog

from latchflow.runtime.isolation.loops import is_being_cancelled
from latchflow.runtime.lifecycle.registry import LoadedPlugin, Registry
from latchflow.runtime.loader.loading import unload_package

_DISPOSE_SECONDS = 5.0
_GRACE_SECONDS = 1.0
_COLLECT_SECONDS = 30.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadFailure:
    """A version that this process should run and cannot."""

    version: str
    code_hash: str
    error: str


@dataclass(frozen=True, kw_only=True)
class _Draining:
    """A version that was replaced, while its calls in flight end."""

    part: Registry
    task: asyncio.Task[None]


class LiveRegistry:
    """Holds the snapshot. Whoever runs capabilities reads `snapshot` once per call, on the host's loop.

    A version that is replaced or taken out ends its calls in flight on the old code; then what it wants disposed is
    disposed, once, its loop is closed and its modules are freed.
    """

    def __init__(self, snapshot: Registry | None = None) -> None:
        self.snapshot = snapshot or Registry.union([])
        self.failures: dict[str, LoadFailure] = {}
        self._parts = {name: self.snapshot.only(name) for name in self.snapshot.plugins}
        self._draining: dict[tuple[str, str], _Draining] = {}
        self._disposing: set[tuple[str, str]] = set()
        self._changed = asyncio.Event()
        self._collecting: asyncio.TimerHandle | None = None
        self._is_closing = False
        self._before_disposal: list[Callable[[LoadedPlugin], Awaitable[None]]] = []

    def before_disposal(self, let_go: Callable[[LoadedPlugin], Awaitable[None]]) -> None:
        """Have this called with each version that is put away, while its loop still runs."""
        self._before_disposal.append(let_go)

    def put(self, part: Registry) -> None:
        """Run this version of one plugin from now on, instead of the one there was."""
        (plugin,) = part.plugins.values()
        old = self._parts.get(plugin.name)
        self._parts[plugin.name] = part
        self.failures.pop(plugin.name, None)
        self._swap()
        if old is not None and old.plugins[plugin.name].loop is not plugin.loop:
            self._retire(old)

    def take_out(self, name: str) -> None:
        """Run this plugin no more."""
        self.failures.pop(name, None)
        old = self._parts.pop(name, None)
        self._swap()
        if old is not None:
            self._retire(old)

    def grant(self, name: str, scopes: frozenset[str]) -> None:
        """Calls that begin from now on have these scopes of those the plugin declares."""
        self.put(self._parts[name].granting(scopes))

    def fail(self, name: str, failure: LoadFailure) -> None:
        """Note that a version cannot run here; what runs of the plugin goes on."""
        self.failures[name] = failure
        self._changed.set()

    def clear_failure(self, name: str) -> None:
        """The plugin is as it should be."""
        if self.failures.pop(name, None) is not None:
            self._changed.set()

    def is_leaving(self, name: str, code_hash: str) -> bool:
        """Whether this version was replaced and is not gone yet: its modules still bear the names."""
        return (name, code_hash) in self._draining

    def bring_back(self, name: str, code_hash: str) -> bool:
        """Run a version again that was replaced and still ends its calls; False when it is disposed of already."""
        key = (name, code_hash)
        draining = self._draining.get(key)
        if draining is None or key in self._disposing:
            return False
        draining.task.cancel()
        del self._draining[key]
        self.put(draining.part)
        return True

    async def until_changed(self, *, within_seconds: float) -> None:
        """Wait until what runs here changed since the last time this returned, no longer than that."""
        try:
            async with asyncio.timeout(within_seconds):
                await self._changed.wait()
        except TimeoutError:
            return
        self._changed.clear()

    async def close(self) -> None:
        """Put everything away; calls in flight have had their time and get one second more."""
        self._is_closing = True
        for name in list(self._parts):
            self.take_out(name)
        tasks = [draining.task for draining in self._draining.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=_GRACE_SECONDS)
        for key, draining in list(self._draining.items()):
            # While one is put away, another may have come to its end by itself.
            if key in self._draining and key not in self._disposing:
                draining.task.cancel()
                await self._put_away(key, draining.part)
        if tasks:
            await asyncio.wait(tasks)
        if self._collecting is not None:
            self._collecting.cancel()

    def _swap(self) -> None:
        self.snapshot = Registry.union(self._parts.values())
        self._changed.set()

    def _retire(self, part: Registry) -> None:
        (plugin,) = part.plugins.values()
        key = (plugin.name, plugin.code_hash)
        task = asyncio.create_task(self._drain(key, part))
        self._draining[key] = _Draining(part=part, task=task)

    async def _drain(self, key: tuple[str, str], part: Registry) -> None:
        (plugin,) = part.plugins.values()
        await plugin.uses.until_idle()
        await self._put_away(key, part)

    async def _put_away(self, key: tuple[str, str], part: Registry) -> None:
        self._disposing.add(key)
        (plugin,) = part.plugins.values()
        try:
            for let_go in self._before_disposal:
                await let_go(plugin)
            await dispose(part)
            await asyncio.to_thread(plugin.loop.close)
            if plugin.copy is not None:
                unload_package(plugin.code_hash)
                plugin.copy.release()
                self._collect_later()
        finally:
            self._disposing.discard(key)
            self._draining.pop(key, None)
            self._changed.set()
        log.info("a version of a plugin was put away", plugin=plugin.name, version=plugin.version)

    def _collect_later(self) -> None:
        """Free what refers to itself in what was unloaded: once for several, as everything stops meanwhile."""
        if self._collecting is not None:
            self._collecting.cancel()
        if not self._is_closing:
            self._collecting = asyncio.get_running_loop().call_later(_COLLECT_SECONDS, gc.collect)


async def dispose(part: Registry) -> None:
    """Call what a loaded version wants called at its end: class actions first, then the plugin's own clean-up.

    Each has five seconds, on the plugin's loop; one that fails keeps none of the others from running.
    """
    (plugin,) = part.plugins.values()
    for action in part.actions.values():
        if action.dispose is not None:
            await _call(plugin, action.dispose)
    for function in plugin.disposers:
        await _call(plugin, function)


async def _call(plugin: LoadedPlugin, function: Callable[[], Awaitable[Any] | Any]) -> None:
    limit = asyncio.timeout(_DISPOSE_SECONDS)
    try:
        async with limit:
            await plugin.loop.call(function)
    except BaseException as error:  # a plugin may raise anything, SystemExit too
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            raise
        reason = f"no end within {_DISPOSE_SECONDS:g} s" if limit.expired() else type(error).__name__
        log.warning("a plugin failed to clean up", plugin=plugin.name, version=plugin.version, reason=reason)

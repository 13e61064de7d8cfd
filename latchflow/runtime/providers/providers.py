"""The providers of this process: made from what they are configured with now, put away when that changes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import structlog

from latchflow.config_schemas import secret_strings
from latchflow.errors import LatchflowError, UnavailableError
from latchflow.masking import Masker
from latchflow.names import provider_config_key
from latchflow.runtime.invoking.configs import ConfigError, config_of, secrets_of
from latchflow.runtime.invoking.plugin_log import plugin_logger
from latchflow.runtime.lifecycle.registry import Key, LoadedPlugin, LoadedProvider, Registry
from latchflow.runtime.providers.provider_configs import effective, ranked
from latchflow.runtime.providers.running_provider import Candidate, RunningEmail, RunningProvider
from latchflow.runtime.providers.system_config import SystemConfig
from latchflow.sdk import (
    HttpService,
    Network,
    ProviderSetup,
    ServiceError,
)

_MAKING_SECONDS = 10.0
_FAILURE_SECONDS = 5.0
"""How long one that could not be made is not tried again, so that what waits for it does not wait in a row."""

_TRIES = 3

log = structlog.get_logger(__name__)


class _GoneError(Exception):
    """This version of the provider's plugin was put away while it was being made."""


class Providers:
    """Makes and keeps the providers of this process.

    Args:
        registry: The snapshot of now; asked at every use.
        config: Where their configs are.
        http: HTTP through the egress guard.
        network: The egress guard.
    """

    def __init__(
        self, registry: Callable[[], Registry], config: SystemConfig, *, http: HttpService, network: Network
    ) -> None:
        self._registry = registry
        self._config = config
        self._http = http
        self._network = network
        self._running: dict[Key, RunningProvider] = {}
        self._warned: dict[Key, str] = {}
        self._locks: dict[Key, asyncio.Lock] = {}
        self._failed: dict[Key, tuple[Candidate, float]] = {}

    @asynccontextmanager
    async def active(self, kind: str) -> AsyncIterator[RunningProvider | None]:
        """The provider of a kind that is in use, kept while the block runs; None when none is configured.

        Raises:
            ServiceError: ``retryable`` while the configs cannot be read, ``fatal`` when they cannot be opened.
        """
        async with self._first(kind) as running:
            yield running

    @asynccontextmanager
    async def named(self, kind: str, name: str) -> AsyncIterator[RunningProvider | None]:
        """A provider by its name in records; None when it is not configured here.

        Raises:
            ServiceError: As `active`; ``retryable`` while it cannot be made.
        """
        async with self._first(kind, name) as running:
            yield running

    async def is_wanted(self, kind: str) -> bool:
        """Whether somebody configured a provider of a kind, usable or not. Raises as `active`."""
        candidates = await self._candidates(self._loaded(kind))
        return any(one.config.is_configured or one.config.problem is not None for one in candidates)

    @asynccontextmanager
    async def trial(self, key: str, value: Any) -> AsyncIterator[RunningProvider]:
        """An instance with a config that need not be stored, to try it out; put away at the end of the block.

        Raises:
            ServiceError: ``fatal``, saying why it cannot be made.
        """
        candidate = self._candidate(key, value)
        with candidate.loaded.plugin.uses:
            running = await self._make(candidate)
            try:
                yield running
            finally:
                await running.retire()

    def _candidate(self, key: str, value: Any) -> Candidate:
        for loaded in self._registry().providers.values():
            if provider_config_key(loaded.plugin.name, loaded.declaration.id) == key:
                config = effective(loaded.schema, loaded.declaration.defaults, value)
                if config.problem is not None or not config.is_configured:
                    raise ServiceError("fatal", f"Not configured: {config.problem or 'there is no config'}")
                return Candidate(loaded=loaded, config=config)
        raise ServiceError("fatal", "This process has not loaded the provider. Is its plugin enabled?")

    @asynccontextmanager
    async def active_email(self) -> AsyncIterator[RunningEmail | None]:
        """The email provider in use. Raises as `active`."""
        async with self.active("email") as running:
            yield RunningEmail(running) if running is not None else None

    @asynccontextmanager
    async def email_named(self, name: str) -> AsyncIterator[RunningEmail | None]:
        """An email provider by its name in records. Raises as `active`."""
        async with self.named("email", name) as running:
            yield RunningEmail(running) if running is not None else None

    async def let_go(self, plugin: LoadedPlugin) -> None:
        """Put away what was made of a version that is replaced, before its loop stops."""
        for key, running in list(self._running.items()):
            if running.candidate.loaded.plugin.loop is plugin.loop:
                del self._running[key]
                await running.retire()

    async def aclose(self) -> None:
        """Put all of them away; before the loops of their plugins stop."""
        running, self._running = list(self._running.values()), {}
        await asyncio.gather(*(one.retire() for one in running))

    @asynccontextmanager
    async def _first(self, kind: str, name: str | None = None) -> AsyncIterator[RunningProvider | None]:
        """The first that can be made, of all or of those with this name."""
        async with AsyncExitStack() as held:
            yield await self._held(kind, name, held)

    def _loaded(self, kind: str) -> list[LoadedProvider]:
        return [one for one in self._registry().providers.values() if one.declaration.kind == kind]

    async def _held(self, kind: str, name: str | None, held: AsyncExitStack) -> RunningProvider | None:
        for _ in range(_TRIES):
            with ExitStack() as uses:
                loaded = self._loaded(kind)
                for one in loaded:  # before anything is awaited: none of them is put away meanwhile
                    uses.enter_context(one.plugin.uses)
                try:
                    for candidate in ranked(await self._candidates(loaded)):
                        if name not in (None, f"{candidate.plugin_name}/{candidate.id}"):
                            continue
                        running, old = await self._ready(candidate)
                        if running is None and name is not None:
                            # It may be the one that knows what became of something.
                            raise ServiceError("retryable", f"The provider {name} cannot be made now. See the log.")
                        if running is None:
                            continue
                        entered = await held.enter_async_context(running.used())
                        if old is not None:
                            await old.retire()
                        return entered
                except _GoneError:
                    continue  # the snapshot of now has what came in its place
            return None
        raise ServiceError("retryable", f"The {kind} provider is being replaced. Try again shortly.")

    async def _candidates(self, loaded: Iterable[LoadedProvider]) -> list[Candidate]:
        keys = {provider_config_key(one.plugin.name, one.declaration.id): one for one in loaded}
        if not keys:
            return []
        try:
            stored = await self._config.stored(list(keys))
        except UnavailableError as error:
            raise ServiceError("retryable", f"The system config cannot be read now: {error.message}") from error
        except LatchflowError as error:
            raise ServiceError("fatal", f"The system config cannot be read: {error.message}") from error
        candidates = [
            Candidate(loaded=one, config=effective(one.schema, one.declaration.defaults, stored.get(key)))
            for key, one in keys.items()
        ]
        self._warn(candidates)
        return candidates

    async def _ready(self, candidate: Candidate) -> tuple[RunningProvider | None, RunningProvider | None]:
        """The instance for this version and config; None when it cannot be made. Then the one to be retired.

        Raises:
            _GoneError: The version was put away meanwhile.
        """
        key, now = candidate.key, asyncio.get_running_loop().time
        running = self._running.get(key)
        if running is not None and _is_same(running.candidate, candidate):
            return running, None
        # Plugin code runs meanwhile: who needs another provider does not wait for it.
        async with self._locks.setdefault(key, asyncio.Lock()):
            running = self._running.get(key)
            if running is not None and _is_same(running.candidate, candidate):
                return running, None
            failed, until = self._failed.get(key, (None, 0.0))
            if failed is not None and _is_same(failed, candidate) and now() < until:
                return None, None
            try:
                made = await self._make(candidate)
            except ServiceError as error:
                self._failed[key] = candidate, now() + _FAILURE_SECONDS
                self._warn_of(key, str(error))
                return None, None
            self._running[key] = made
            self._failed.pop(key, None)
            self._warned.pop(key, None)
        return made, running

    async def _make(self, candidate: Candidate) -> RunningProvider:
        loaded, values = candidate.loaded, candidate.config.values
        masker = Masker(secret_strings(loaded.schema, values))
        running = RunningProvider(candidate=candidate, instance=None, masker=masker)
        try:
            config = config_of(loaded, values)
        except ConfigError as error:
            raise ServiceError("fatal", f"The provider {running.name} is not configured: {error}") from None
        setup = ProviderSetup(
            config=config,
            secrets=MappingProxyType(secrets_of(loaded, values)),
            logger=plugin_logger(masker, plugin=candidate.plugin_name, provider=candidate.id),
            http=self._http,
            network=self._network,
        )

        async def make() -> Any:  # a coroutine, so that it runs on the plugin's loop
            return loaded.declaration.provider(setup)

        deadline = datetime.fromtimestamp(datetime.now(UTC).timestamp() + _MAKING_SECONDS, UTC)
        try:
            running.instance = await running.call(make, deadline=deadline, unknown=False)
        except ServiceError as error:
            current = self._registry().providers.get(candidate.key)
            if current is None or current.plugin.loop is not loaded.plugin.loop:
                raise _GoneError(str(error)) from None
            raise ServiceError("fatal", str(error)) from None
        return running

    def _warn(self, candidates: Iterable[Candidate]) -> None:
        for candidate in candidates:
            if candidate.config.problem is not None:
                self._warn_of(candidate.key, candidate.config.problem)

    def _warn_of(self, key: Key, problem: str) -> None:
        """Once for each problem, not at every mail."""
        if self._warned.get(key) != problem:
            self._warned[key] = problem
            log.warning("a provider is not used", plugin=key[0], provider=key[1], problem=problem)


def _is_same(first: Candidate, second: Candidate) -> bool:
    return first.loaded is second.loaded and first.config.values == second.config.values

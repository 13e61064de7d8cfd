"""The providers of this process: made from what they are configured with now, put away when that changes."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, cast

import structlog

from latchflow.config_schemas import secret_strings
from latchflow.errors import LatchflowError, UnavailableError
from latchflow.masking import Masker, readable
from latchflow.names import provider_config_key
from latchflow.runtime.invoking.configs import ConfigError, config_of, secrets_of
from latchflow.runtime.invoking.plugin_log import plugin_logger
from latchflow.runtime.isolation.loops import is_being_cancelled
from latchflow.runtime.lifecycle.registry import Key, LoadedPlugin, LoadedProvider, Registry
from latchflow.runtime.providers.provider_configs import ProviderConfig, effective, ranked
from latchflow.runtime.providers.system_config import SystemConfig
from latchflow.sdk import (
    EmailDelivery,
    EmailLookup,
    HttpService,
    Network,
    ProviderSetup,
    SendResult,
    ServiceError,
)

_MAKING_SECONDS = 10.0
_DISPOSING_SECONDS = 5.0
_MAX_MESSAGE = 2000
_KINDS = frozenset({"validation", "denied", "not_found", "rate_limited", "retryable", "fatal", "outcome_unknown"})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A loaded provider with its config of now."""

    loaded: LoadedProvider
    config: ProviderConfig

    @property
    def plugin_name(self) -> str:
        """The plugin that brings it."""
        return self.loaded.plugin.name

    @property
    def id(self) -> str:
        """Its id in the plugin."""
        return self.loaded.declaration.id

    @property
    def key(self) -> Key:
        """Its place in the registry."""
        return self.plugin_name, self.id


@dataclass(eq=False, kw_only=True)
class RunningProvider:
    """An instance of a provider, for one loaded version and one config.

    Attributes:
        instance: What the plugin's class made. Its methods run on the plugin's loop only.
        users: Who uses it now; it is put away when the last one is done.
    """

    candidate: Candidate
    instance: Any
    masker: Masker
    users: int = 0
    is_retired: bool = False
    _disposed: bool = field(default=False, init=False)

    @property
    def name(self) -> str:
        """Its name in records."""
        return f"{self.candidate.plugin_name}/{self.candidate.id}"

    async def call(self, function: Callable[..., Any], *arguments: Any, deadline: datetime, unknown: bool) -> Any:
        """Call a method of the instance on the plugin's loop.

        Args:
            function: The method.
            *arguments: Its arguments.
            deadline: When its answer is no longer waited for.
            unknown: Whether a fault of the provider's leaves open what has happened; else it is ``retryable``.

        Raises:
            ServiceError: What the provider raised, without the secrets of its config.
        """
        limit = asyncio.timeout(max((deadline - datetime.now(UTC)).total_seconds(), 0.0))
        try:
            async with limit:
                return await self.candidate.loaded.plugin.loop.call(function, *arguments)
        except BaseException as error:  # a plugin may raise anything; the host must live on
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            raise self._shown(error, timed_out=limit.expired(), unknown=unknown) from None

    @asynccontextmanager
    async def used(self) -> AsyncIterator["RunningProvider"]:
        """Keep it from being put away while the block runs."""
        self.users += 1
        try:
            with self.candidate.loaded.plugin.uses:
                yield self
        finally:
            self.users -= 1
            if self.is_retired:
                await self.retire()

    async def retire(self) -> None:
        """Put it away, once it is not in use any more."""
        self.is_retired = True
        dispose = getattr(self.instance, "dispose", None)
        if self.users or self._disposed or dispose is None:
            return
        self._disposed = True
        try:
            async with asyncio.timeout(_DISPOSING_SECONDS):
                await self.candidate.loaded.plugin.loop.call(dispose)
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            log.warning("a provider could not be put away", provider=self.name, error=self._text(error))

    def _shown(self, error: BaseException, *, timed_out: bool, unknown: bool) -> ServiceError:
        if isinstance(error, ServiceError) and error.kind in _KINDS:
            return ServiceError(error.kind, self._text(error), retry_after=error.retry_after)
        reason = "no answer in time" if timed_out else f"{type(error).__name__}: {self._text(error)}"
        log.error("a provider failed", provider=self.name, reason=reason)
        kind = "outcome_unknown" if unknown else "retryable"
        return ServiceError(cast("Any", kind), f"The provider {self.name} failed: {reason}")

    def _text(self, error: BaseException) -> str:
        try:
            text = str(error)
        except Exception:  # it is the plugin's code
            text = "(without a text)"
        return readable(self.masker.text(text))[:_MAX_MESSAGE]


class RunningEmail:
    """An email provider that is ready; implements `latchflow.services.mail.MailProvider`."""

    def __init__(self, running: RunningProvider) -> None:
        self._running = running

    @property
    def name(self) -> str:
        """Its name in records."""
        return self._running.name

    @property
    def can_find(self) -> bool:
        """Whether it can be asked what became of a mail."""
        return isinstance(self._running.instance, EmailLookup)

    async def send(self, delivery: EmailDelivery) -> SendResult:
        """Send one mail. Raises as `latchflow.sdk.EmailProvider.send`."""
        send = self._running.instance.send
        result = await self._running.call(send, delivery, deadline=delivery.deadline, unknown=True)
        if not isinstance(result, SendResult):
            message = f"The provider {self.name} answered {type(result).__name__} instead of SendResult."
            raise ServiceError("outcome_unknown", message)
        return result

    async def find(self, delivery: EmailDelivery) -> SendResult | None:
        """What became of a mail."""
        find = self._running.instance.find
        result = await self._running.call(find, delivery, deadline=delivery.deadline, unknown=False)
        if result is not None and not isinstance(result, SendResult):
            message = f"The provider {self.name} answered {type(result).__name__} instead of SendResult or None."
            raise ServiceError("outcome_unknown", message)
        return result


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
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def active(self, kind: str) -> AsyncIterator[RunningProvider | None]:
        """The provider of a kind that is in use, kept while the block runs; None when none is configured.

        Raises:
            ServiceError: ``retryable`` while the configs cannot be read, ``fatal`` when they cannot be opened.
        """
        async with self._first(ranked(await self._candidates(kind))) as running:
            yield running

    @asynccontextmanager
    async def named(self, kind: str, name: str) -> AsyncIterator[RunningProvider | None]:
        """A provider by its name in records; None when it is not configured here. Raises as `active`."""
        candidates = ranked(await self._candidates(kind))
        async with self._first([one for one in candidates if f"{one.plugin_name}/{one.id}" == name]) as running:
            yield running

    async def is_wanted(self, kind: str) -> bool:
        """Whether somebody configured a provider of a kind, usable or not. Raises as `active`."""
        return any(one.config.is_configured or one.config.problem is not None for one in await self._candidates(kind))

    @asynccontextmanager
    async def trial(self, key: str, value: Any) -> AsyncIterator[RunningProvider]:
        """An instance with a config that need not be stored, to try it out; put away at the end of the block.

        Raises:
            ServiceError: ``fatal``, saying why it cannot be made.
        """
        running = await self._make(self._candidate(key, value))
        with running.candidate.loaded.plugin.uses:
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
    async def _first(self, candidates: Iterable[Candidate]) -> AsyncIterator[RunningProvider | None]:
        """The first of them that can be made."""
        for candidate in candidates:
            running = await self._ready(candidate)
            if running is not None:
                async with running.used():
                    yield running
                return
        yield None

    async def _candidates(self, kind: str) -> list[Candidate]:
        loaded = [one for one in self._registry().providers.values() if one.declaration.kind == kind]
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

    async def _ready(self, candidate: Candidate) -> RunningProvider | None:
        """The instance for this version and config; None when it cannot be made."""
        async with self._lock:
            running = self._running.get(candidate.key)
            if running is not None and _is_same(running.candidate, candidate):
                return running
            try:
                made = await self._make(candidate)
            except ServiceError as error:
                self._warn_of(candidate.key, str(error))
                return None
            self._running[candidate.key] = made
            self._warned.pop(candidate.key, None)
        if running is not None:
            await running.retire()
        return made

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

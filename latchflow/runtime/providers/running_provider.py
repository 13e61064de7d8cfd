"""One instance of a provider: calls into it, and its end."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, cast

import structlog

from latchflow.masking import Masker, readable
from latchflow.runtime.isolation.loops import PluginClosedError, is_being_cancelled
from latchflow.runtime.lifecycle.registry import Key, LoadedProvider
from latchflow.runtime.providers.provider_configs import ProviderConfig
from latchflow.sdk import EmailDelivery, EmailLookup, SendResult, ServiceError

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
        begun = _Begun(function)
        try:
            async with limit:
                return await self.candidate.loaded.plugin.loop.call(begun.function, *arguments)
        except BaseException as error:  # a plugin may raise anything; the host must live on
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            if isinstance(error, PluginClosedError) and not begun.is_set:
                unknown = False
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


class _Begun:
    """A function that notes that it was begun: a loop that was closed before did nothing."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.is_set = False

        async def on_loop(*arguments: Any) -> Any:
            self.is_set = True
            return await function(*arguments)

        def in_thread(*arguments: Any) -> Any:
            self.is_set = True
            return function(*arguments)

        self.function = on_loop if inspect.iscoroutinefunction(function) else in_thread


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

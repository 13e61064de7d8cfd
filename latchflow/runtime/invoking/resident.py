"""Hosting one resident trigger: it is made, started, reconfigured, replaced and put away on its plugin's loop."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

import structlog

from latchflow.config_schemas import secret_strings
from latchflow.masking import Masker, readable, readable_json
from latchflow.nesting import MAX_DEPTH, nests_deeper
from latchflow.runtime.invoking.configs import ConfigError, config_of, secrets_of
from latchflow.runtime.invoking.plugin_log import plugin_logger
from latchflow.runtime.isolation.loops import is_being_cancelled
from latchflow.runtime.lifecycle.registry import LoadedResident
from latchflow.runtime.tasks import end_task
from latchflow.sdk import Accepted, Emission, ResidentSetup, ResidentTrigger

START_SECONDS = 30.0
STOP_SECONDS = 3.0
"""Below the time after which another host may take over."""

MAX_CONTEXT_BYTES = 512 * 1024

OnEmit = Callable[[Emission], Awaitable[Accepted]]

log = structlog.get_logger(__name__)


class ResidentError(Exception):
    """The trigger did not start, or could not be reconfigured; the message is for the operator, masked."""


class EmissionError(ValueError):
    """What a trigger emits cannot be an event; raised to the trigger itself."""


@dataclass(frozen=True, kw_only=True)
class ResidentDefinition:
    """What one instance listens for.

    Attributes:
        config: The definition's whole config, opened, as the loaded version takes it.
        cursor: What the last emission stored.
    """

    trigger_id: UUID
    config: Mapping[str, Any]
    cursor: Any = None


class ResidentHost:
    """Hosts one instance. Call its methods one at a time, on the host's loop.

    Args:
        on_emit: Called on the host's loop with each emission that was checked; what it returns or raises goes to the
            trigger.
        start_seconds: What ``start`` and ``on_config_change`` get.
        stop_seconds: What ``stop`` gets, and ``dispose``.
    """

    def __init__(
        self, on_emit: OnEmit, *, start_seconds: float = START_SECONDS, stop_seconds: float = STOP_SECONDS
    ) -> None:
        self._on_emit = on_emit
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._loop = asyncio.get_running_loop()
        self._running: _Running | None = None
        self._one_at_a_time = asyncio.Lock()
        self._again: asyncio.Task[None] | None = None

    async def start(self, resident: LoadedResident, definition: ResidentDefinition) -> None:
        """Make an instance and start it.

        Raises:
            ResidentError: It did not start within its time; nothing of it is left running.
        """
        async with self._one_at_a_time:
            await self._start(resident, definition)

    async def _start(self, resident: LoadedResident, definition: ResidentDefinition) -> None:
        if self._running is not None:
            raise RuntimeError("this host has an instance already; reconfigure it, or stop it first")
        # Until its end the version it comes from is not put away.
        resident.plugin.uses.__enter__()
        running = _Running(resident=resident, masker=Masker(secret_strings(resident.schema, definition.config)))
        running.on_replaced = partial(self._tell, running)
        try:
            setup = self._setup(running, definition)
            running.instance = await self._call(running, _made, resident.capability.trigger, setup)
            running.accepts = True
            await self._call(running, running.instance.start)
        except BaseException:
            await self._put_away(running)
            raise
        running.definition = definition
        self._running = running
        resident.plugin.loop.hold(running.on_replaced)

    async def reconfigure(self, definition: ResidentDefinition) -> None:
        """Give the instance a changed definition: ``on_config_change`` where the class has it, else a new instance.

        Raises:
            ResidentError: It failed; the instance is stopped.
        """
        async with self._one_at_a_time:
            await self._reconfigure(definition)

    async def _reconfigure(self, definition: ResidentDefinition) -> None:
        running = self._required()
        change = getattr(running.instance, "on_config_change", None)
        if change is None:
            await self._swap(running.resident, definition)
            return
        try:
            definition = running.moved_on(definition)
            running.masker = Masker(secret_strings(running.resident.schema, definition.config))
            setup = self._setup(running, definition)
            await self._call(running, change, setup)
            running.instance.setup = setup
            running.definition = definition
        except BaseException:
            await self._stop()
            raise

    async def swap(self, resident: LoadedResident, definition: ResidentDefinition) -> None:
        """Go on with another version of the plugin: the old instance stops before the new one starts.

        The new one goes on where the old one has ended, even if the definition was read before that.

        Raises:
            ResidentError: The new one did not start; neither runs.
        """
        async with self._one_at_a_time:
            await self._swap(resident, definition)

    async def _swap(self, resident: LoadedResident, definition: ResidentDefinition) -> None:
        old = self._running
        await self._stop()
        await self._start(resident, definition if old is None else old.moved_on(definition))

    async def stop(self) -> None:
        """Stop the instance and dispose of it; what fails or takes too long is logged. Safe to repeat."""
        if self._again is not None:
            await end_task(self._again)
        async with self._one_at_a_time:
            await self._stop()

    async def _stop(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await self._put_away(running)

    def _replaced(self, running: "_Running") -> None:
        """The loop of an instance was replaced, by no fault of its own perhaps: it is gone without having stopped."""
        running.accepts = False
        if self._running is running:
            self._again = asyncio.create_task(self._begin_again(running))

    async def _begin_again(self, lost: "_Running") -> None:
        async with self._one_at_a_time:
            if self._running is not lost or lost.definition is None:
                return
            self._running = None
            try:
                await self._start(lost.resident, lost.moved_on(lost.definition))
            except ResidentError as error:
                resident = lost.resident
                log.error(
                    "a trigger whose loop was replaced does not start again",
                    plugin=resident.plugin.name,
                    key=resident.key,
                    reason=str(error),
                )
            finally:
                self._release(lost)

    def _tell(self, running: "_Running") -> None:
        """Called by another thread."""
        with suppress(RuntimeError):  # the host's loop is closed: the process ends
            self._loop.call_soon_threadsafe(self._replaced, running)

    def _release(self, running: "_Running") -> None:
        running.accepts = False
        running.resident.plugin.loop.let_go(running.on_replaced)
        running.resident.plugin.uses.__exit__(None, None, None)

    def _required(self) -> "_Running":
        if self._running is None:
            raise RuntimeError("this host has no instance; start one first")
        return self._running

    def _setup(self, running: "_Running", definition: ResidentDefinition) -> ResidentSetup[Any]:
        resident = running.resident
        try:
            config = config_of(resident, definition.config)
        except ConfigError as error:
            raise ResidentError(str(error)) from None

        async def emit(emission: Emission) -> Accepted:
            return await self._emit(running, emission)

        return ResidentSetup(
            config=config,
            secrets=MappingProxyType(secrets_of(resident, definition.config)),
            trigger_id=definition.trigger_id,
            cursor=definition.cursor,
            logger=plugin_logger(running.masker, plugin=resident.plugin.name, trigger_id=str(definition.trigger_id)),
            emit=emit,
        )

    async def _emit(self, running: "_Running", emission: Emission) -> Accepted:
        """On the plugin's loop."""
        checked = checked_emission(emission)
        if not running.accepts:
            raise EmissionError("The trigger was stopped; it emits nothing any more.")
        future = asyncio.run_coroutine_threadsafe(self._hand_on(running, checked), self._loop)
        return await asyncio.wrap_future(future)

    async def _hand_on(self, running: "_Running", emission: Emission) -> Accepted:
        accepted = await self._on_emit(emission)
        if emission.cursor is not None:
            running.cursor = emission.cursor
        return accepted

    async def _put_away(self, running: "_Running") -> None:
        try:
            if running.instance is not None:
                await self._try(running, "stop", running.instance.stop)
                running.accepts = False
                dispose = getattr(running.instance, "dispose", None)
                if dispose is not None:
                    await self._try(running, "dispose", dispose)
        finally:
            self._release(running)

    async def _try(self, running: "_Running", what: str, method: Callable[[], Any]) -> None:
        try:
            await self._call(running, method, seconds=self._stop_seconds)
        except ResidentError as error:
            resident = running.resident
            log.warning(
                "a trigger failed to end",
                at=what,
                plugin=resident.plugin.name,
                key=resident.key,
                reason=str(error),
            )

    async def _call(
        self, running: "_Running", function: Callable[..., Any], *arguments: Any, seconds: float | None = None
    ) -> Any:
        seconds = self._start_seconds if seconds is None else seconds
        limit = asyncio.timeout(seconds)
        try:
            async with limit:
                return await running.resident.plugin.loop.call(function, *arguments)
        except BaseException as error:  # a plugin may raise anything; the host must live on
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            name = getattr(function, "__name__", "the call")
            reason = f"took over {seconds:g} s" if limit.expired() else f"raised {_text(error)}"
            raise ResidentError(readable(running.masker.text(f"{name} {reason}"))) from None


@dataclass(kw_only=True)
class _Running:
    """The instance; while it `accepts`, what it emits is handed on. `cursor` is of its last emission that was taken."""

    resident: LoadedResident
    masker: Masker
    instance: Any = None
    accepts: bool = False
    cursor: Any = None
    definition: ResidentDefinition | None = None
    on_replaced: Callable[[], None] = lambda: None

    def moved_on(self, definition: ResidentDefinition) -> ResidentDefinition:
        """The definition with the cursor as this instance left it."""
        return definition if self.cursor is None else replace(definition, cursor=self.cursor)


def checked_emission(emission: Emission) -> Emission:
    """The emission as plain JSON data.

    Raises:
        EmissionError: The first fault; the trigger's author must mend it.
    """
    if not isinstance(emission, Emission):
        raise EmissionError(f"emit takes an Emission, not {type(emission).__name__}.")
    for name in ("context", "metadata"):
        if not isinstance(getattr(emission, name), Mapping):
            raise EmissionError(f"The {name} is {type(getattr(emission, name)).__name__}; emit a mapping.")
    if emission.key is not None and not (isinstance(emission.key, str) and emission.key):
        raise EmissionError("The key is no text; emit some text, or none.")
    if emission.key is not None and readable(emission.key) != emission.key:
        raise EmissionError("The key holds a character that cannot be stored (NUL or a lone surrogate).")
    when = emission.scheduled_for
    if when is not None and not (isinstance(when, datetime) and when.tzinfo is not None):
        raise EmissionError("scheduled_for is no time with a zone; emit UTC.")
    context, metadata, cursor = (
        _plain(name, value)
        for name, value in (
            ("context", dict(emission.context)),
            ("metadata", dict(emission.metadata)),
            ("cursor", emission.cursor),
        )
    )
    size = len(json.dumps(context, separators=(",", ":"), ensure_ascii=False).encode())
    if size > MAX_CONTEXT_BYTES:
        raise EmissionError(f"The context has {size} bytes; at most {MAX_CONTEXT_BYTES} are taken.")
    if readable_json(metadata) != metadata:
        raise EmissionError("The metadata holds a character that cannot be stored (NUL or a lone surrogate).")
    return replace(emission, context=context, metadata=metadata, cursor=cursor)


def _plain(name: str, value: Any) -> Any:
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
        read = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise EmissionError(f"The {name} cannot be written as JSON: {readable(str(error))}. Emit plain data.") from None
    if nests_deeper(read, MAX_DEPTH + 1):  # of each value in it
        raise EmissionError(f"The {name} holds a value that is nested deeper than {MAX_DEPTH} levels.")
    return read


async def _made(trigger: type[ResidentTrigger[Any]], setup: ResidentSetup[Any]) -> ResidentTrigger[Any]:
    return trigger(setup)


def _text(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # __str__ is the plugin's code too
        return type(error).__name__

"""Resident triggers: classes that listen by themselves and emit."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Generic, TypeVar
from uuid import UUID

from latchflow.sdk.logger import Logger

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, kw_only=True)
class Emission:
    """One event a resident trigger emits.

    Attributes:
        context: What the event's steps read as ``event.context``; JSON-serialisable, at most 512 KiB.
        scheduled_for: The nominal time the event stands for, if it has one (UTC).
        metadata: Small facts about the event, shown in lists; JSON-serialisable, never secret.
        key: Deduplicates: a second emission with this key (per trigger, for 400 days) is the same event.
        cursor: Stored in the same transaction as the event; the next start finds it in `ResidentTrigger.cursor`.
    """

    context: Mapping[str, Any]
    scheduled_for: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    cursor: Any = None


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """Core has the event; it will run."""

    event_id: UUID
    is_duplicate: bool


@dataclass(frozen=True, kw_only=True)
class ResidentSetup(Generic[ConfigT]):
    """What core hands to a resident trigger when it makes it.

    Attributes:
        config: The definition's config without its secrets.
        secrets: The values of the ``writeOnly`` properties.
        cursor: What the last emission stored; None at first.
        emit: Core's side of `ResidentTrigger.emit`.
    """

    config: ConfigT
    secrets: Mapping[str, Any] = field(repr=False)
    trigger_id: UUID
    cursor: Any
    logger: Logger
    emit: Callable[[Emission], Awaitable[Accepted]]


class ResidentTrigger(Generic[ConfigT]):
    """Base of resident triggers; one instance per definition and host.

    ``start`` begins to listen and returns. A subclass may have ``async def on_config_change(self, setup)``, without
    which a changed definition stops the instance and makes a new one, and ``async def dispose(self)``, called after
    ``stop``.
    """

    def __init__(self, setup: ResidentSetup[ConfigT]) -> None:
        self.setup = setup

    @property
    def config(self) -> ConfigT:
        """The definition's config without its secrets."""
        return self.setup.config

    @property
    def secrets(self) -> Mapping[str, Any]:
        """The values of the ``writeOnly`` properties."""
        return self.setup.secrets

    @property
    def cursor(self) -> Any:
        """What the last emission before this start stored."""
        return self.setup.cursor

    @property
    def logger(self) -> Logger:
        """A logger that carries the trigger's id."""
        return self.setup.logger

    async def start(self) -> None:
        """Begin to listen. Must return; what listens runs in a task of its own."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Stop listening; nothing may be emitted afterwards."""
        raise NotImplementedError

    async def emit(
        self,
        *,
        context: Mapping[str, Any],
        scheduled_for: datetime | None = None,
        metadata: Mapping[str, Any] | None = None,
        key: str | None = None,
        cursor: Any = None,
    ) -> Accepted:
        """Fire the trigger once. When this returns, the event is stored and will run."""
        emission = Emission(
            context=context, scheduled_for=scheduled_for, metadata=metadata or {}, key=key, cursor=cursor
        )
        return await self.setup.emit(emission)

"""What the guard puts on record of a service call, and of the effect that it has outside."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

EffectState = Literal["new", "intended", "done", "failed"]
"""What is known of an effect: nothing; that it was about to happen; that it happened; that it did not."""


@dataclass(frozen=True, kw_only=True)
class ServiceCall:
    """What is audited of a service call.

    Attributes:
        outcome: ``ok``, the kind of the error, or ``intended`` for an effect that is about to happen.
    """

    service: str
    requested_scopes: Sequence[str]
    granted_scopes: Sequence[str]
    outcome: str
    actor_id: str | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Intent:
    """An effect that a call is about to have.

    Attributes:
        ordinal: The call's place among the attempt's calls of this service, from 1; the same in every attempt.
        key: The idempotency key of the effect: equal for all attempts.
        target: SHA-256, in hex, of what the effect goes to, so that an attempt that asks for something else in this
            place does not get an earlier one's answer.
        content: SHA-256, in hex, of what it says there; for the same reason.
    """

    service: str
    ordinal: int
    key: str
    target: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Prior:
    """What an earlier attempt left of an effect.

    Attributes:
        content: None where it is not compared: of another version of the plugin, or from before it was kept.
        via: The provider it was handed to last, where there is a choice.
        live_until: When the attempt that handed it over can act no longer, however long it was held up; None when
            it was not handed over, or that attempt saw its call come back.
        result: Of a ``done`` one, as JSON; None when it was too large to keep.
    """

    state: EffectState
    target: str
    content: str | None = None
    via: str | None = None
    live_until: datetime | None = None
    result: bytes | None = None

    def is_another(self, intent: Intent) -> bool:
        """Whether `intent` is not this effect. What failed may be said in other words."""
        if self.target != intent.target:
            return True
        return self.state in ("done", "intended") and self.content not in (None, intent.content)


class Records(Protocol):
    """Where an attempt's service calls are written down. Every method runs on the loop of the host."""

    async def call(self, call: ServiceCall) -> None:
        """Audit a call that has ended and changed nothing of what is on record of an effect."""
        ...

    async def begin(self, intent: Intent, call: ServiceCall) -> Prior:
        """Write an effect down as intended, unless it is ``done`` or ``intended`` already, and audit it.

        When this returns it is committed.

        Returns:
            What was there before; ``new`` and ``failed`` are intended now.

        Raises:
            ServiceError: ``denied`` when the attempt is over: another one may be at work.
        """
        ...

    async def via(self, intent: Intent, provider: str, *, live_until: datetime) -> None:
        """Write down which provider the effect is being handed to, and until when the attempt may do so.

        Raises:
            ServiceError: ``denied`` when the attempt is over: another one may have found that no provider has it.
        """
        ...

    async def finish(self, intent: Intent, call: ServiceCall, state: EffectState, result: bytes | None) -> None:
        """Write down what became of an effect, and audit it.

        ``intended`` leaves open whether it happened; the attempt itself has nothing more to do with it.
        """
        ...

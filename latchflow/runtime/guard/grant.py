"""Watching over one service call: is it allowed, has it happened already, what becomes of it."""

import asyncio
import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from latchflow.runtime.guard.callback_addresses import without_addresses
from latchflow.runtime.guard.records import EffectState, Intent, Prior, Records, ServiceCall
from latchflow.sdk import ServiceError
from latchflow.services.handover import OpenError, UnsettledError

T = TypeVar("T")

MAX_RESULT_BYTES = 4 * 1024 * 1024
"""A larger answer is not kept for the next attempt."""

_MARGIN = timedelta(seconds=1)
_LATE = timedelta(seconds=10)
"""How long after an attempt's deadline what it sent may be under way, and the clocks of two workers be apart."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a plugin asked for.

    Attributes:
        scopes: What the call must hold.
        detail: What the audit says of it: ids and counts, never data.
    """

    service: str
    scopes: Sequence[str]
    actor_id: str | None
    detail: Mapping[str, Any]


class Kept(Protocol[T]):
    """How a result is kept for a later attempt; a ``pydantic.TypeAdapter`` is one."""

    def dump_json(self, instance: T, /) -> bytes:
        """The result as JSON."""
        ...

    def validate_json(self, data: bytes, /) -> T:
        """The result again."""
        ...


@dataclass(frozen=True, kw_only=True)
class Effect(Generic[T]):
    """What a call does outside, and what is known about repeating it.

    Attributes:
        target: What it goes to; hashed before it is kept.
        result: How its result is kept for a later attempt.
        is_repeatable: The receiver recognises a repetition by the key, or a repetition changes nothing.
        find: Asks the provider what became of an earlier try, given its key and `Prior.via`: its result, or None when
            it did not happen. Raises ``outcome_unknown`` when nobody can say.
        content: What it says there, where that may not change between attempts; hashed too. Nothing volatile or
            secret is in it: a token is fetched anew, a template of a mail has its own time of the day.
        identity: What makes two calls of an attempt the same, so that the second is a repetition of the first.
        is_failure: Of a result that means that nothing happened, so that the next attempt shall try again.
    """

    target: str
    result: Kept[T]
    is_repeatable: bool = False
    find: Callable[[str, str | None], Awaitable[T | None]] | None = None
    content: str = ""
    identity: str = ""
    is_failure: Callable[[T], bool] = lambda _: False


class Handle:
    """What a backend may say and know about the effect it carries out."""

    def __init__(self, intent: Intent, records: Records, deadline: datetime) -> None:
        self._intent = intent
        self._records = records
        self._deadline = deadline

    @property
    def key(self) -> str:
        """The idempotency key of the effect."""
        return self._intent.key

    async def via(self, provider: str) -> None:
        """Say which provider it is handed to now; written down before that happens."""
        await self._records.via(self._intent, provider, live_until=self._deadline)


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What the guard knows of the attempt it watches over.

    Attributes:
        granted_scopes: What an admin granted, of what ``plugin.toml`` declares.
        capability_scopes: What the capability declares; a call needs both.
        records: Where calls are written down.
        host_loop: The loop that services and database belong to; plugin code runs on another.
        deadline: When the attempt ends.
        clean_up: What the plugin gets after that to clean up; its calls still work then.
        resends_unknown: The definition says ``onUnknown: resend``.
        calls_made: By service, how many calls with an effect were made before an action waited; what follows the wait
            counts on from there.
    """

    granted_scopes: frozenset[str]
    capability_scopes: frozenset[str]
    idempotency_key: str
    records: Records
    host_loop: asyncio.AbstractEventLoop
    deadline: datetime
    clean_up: timedelta = timedelta()
    resends_unknown: bool = False
    calls_made: Counter[str] = field(default_factory=Counter)
    _unfinished: dict[tuple[str, str], int] = field(default_factory=dict)
    _awaited: list[datetime] = field(default_factory=list)
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def require_open(self) -> None:
        """Check that the attempt goes on.

        Raises:
            ServiceError: ``denied``: it is over.
        """
        if self._over.is_set():
            raise ServiceError("denied", "The attempt is over: its time was up, or another one has begun.")

    @property
    def cutoff(self) -> datetime:
        """When a call to the outside must have come back: before the attempt ends, so that it is known how it went."""
        now = datetime.now(UTC)
        end = self.deadline if now < self.deadline else self.deadline + self.clean_up
        return end - min(_MARGIN, max(end - now, timedelta()) / 10)

    @property
    def quiet_at(self) -> datetime | None:
        """When the lost attempts that stand in the way of this one can act no longer; None: there is none."""
        return max(self._awaited, default=None)

    def end(self) -> None:
        """The attempt is over: a thread that outlives it can call no service any more."""
        self._over.set()

    async def watch(self, asked: Asked, work: Callable[[], Awaitable[T]]) -> T:
        """Check, carry out and audit a call that has no effect outside.

        Raises:
            ServiceError: ``denied`` for a scope that was not declared or not granted, or whatever the service raised.
        """
        return await self.on_host(self._watched(asked, work))

    async def effect(self, asked: Asked, effect: Effect[T], work: Callable[[Handle], Awaitable[T]]) -> T:
        """Check a call and let its effect happen, unless an earlier attempt has done that.

        Raises:
            ServiceError: As `watch`; ``outcome_unknown`` when an earlier attempt may have done it and nobody can say.
        """
        call = (asked.service, effect.identity or effect.target)
        ordinal = self._ordinal(call)
        intent = Intent(
            service=asked.service,
            ordinal=ordinal,
            key=f"{self.idempotency_key}/{asked.service}/{ordinal}",
            target=_hash(effect.target),
            content=_hash(effect.content),
        )
        is_done = False
        try:
            result, is_done = await self.on_host(self._effected(asked, intent, effect, work))
        finally:
            if not is_done:
                self._unfinished[call] = ordinal
        return result

    def _ordinal(self, call: tuple[str, str]) -> int:
        """The place of a call: every attempt makes its calls in the same order, so each keeps its own.

        An attempt that repeats a call which did not succeed is still at the place of that one: counted as another
        call, what it achieves would be done again by the next attempt.
        """
        unfinished = self._unfinished.pop(call, None)
        if unfinished is not None:
            return unfinished
        self.calls_made[call[0]] += 1
        return self.calls_made[call[0]]

    async def on_host(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something on the host's loop; cancelling the caller cancels it there."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.host_loop))

    async def _watched(self, asked: Asked, work: Callable[[], Awaitable[T]]) -> T:
        outcome = "fatal"
        try:
            self._check(asked)
            result = await work()
            outcome = "ok"
            return result
        except ServiceError as error:
            outcome = error.kind
            raise
        finally:
            # Shielded: a time limit that strikes now must not leave what was done without its entry.
            await asyncio.shield(asyncio.ensure_future(self.records.call(self._call(asked, outcome))))

    async def _effected(
        self, asked: Asked, intent: Intent, effect: Effect[T], work: Callable[[Handle], Awaitable[T]]
    ) -> tuple[T, bool]:
        """The result, and whether the effect has happened."""
        try:
            self._check(asked)
        except ServiceError as error:
            await self.records.call(self._call(asked, error.kind))
            raise
        call = self._call(asked, "intended")
        prior = await self._begin(intent, call)
        known = await self._known(prior, intent, call, effect)
        if known is not None:
            return known.value, True
        result = await self._carry_out(intent, call, effect, work)
        return result, not effect.is_failure(result)

    async def _begin(self, intent: Intent, call: ServiceCall) -> Prior:
        beginning = asyncio.ensure_future(self.records.begin(intent, call))
        try:
            return await asyncio.shield(beginning)
        except asyncio.CancelledError:
            # What was written down as intended has not happened, and never will.
            prior = await beginning
            if prior.state in ("new", "failed"):
                await self._finish(intent, call, "retryable", "failed", None)
            raise

    async def _known(self, prior: Prior, intent: Intent, call: ServiceCall, effect: Effect[T]) -> "_Known[T] | None":
        """The result of an earlier attempt; None when the effect shall happen now."""
        if prior.state == "new":
            return None
        if prior.target != intent.target:
            message = (
                f"This attempt's call {intent.ordinal} of {intent.service} goes elsewhere than the one of an earlier "
                "attempt. Make the calls of an action in the same order in every attempt."
            )
            raise ServiceError("fatal", message)
        if prior.is_another(intent):
            message = (
                f"This attempt's call {intent.ordinal} of {intent.service} says something else than the one of an "
                "earlier attempt, which happened or may have. What an effect says must not change between attempts: "
                "build it from the call's config, payload and idempotency key, never from the clock or at random, and "
                "make the calls in the same order."
            )
            # Of one that may have happened nobody knows, whatever this one would have said.
            raise ServiceError("fatal" if prior.state == "done" else "outcome_unknown", message)
        if prior.state == "done":
            return _Known(self._stored(prior, intent, effect))
        if prior.state == "intended" and not effect.is_repeatable:
            found = await self._find(prior, intent, call, effect)
            if found is not None:
                await self._finish(intent, call, "ok", "done", effect.result.dump_json(found))
                return _Known(found)
        return None

    def _stored(self, prior: Prior, intent: Intent, effect: Effect[T]) -> T:
        if prior.result is None:
            message = f"{intent.service} was done by an earlier attempt, and its answer was too large to be kept."
            raise ServiceError("outcome_unknown", message)
        return effect.result.validate_json(prior.result)

    async def _find(self, prior: Prior, intent: Intent, call: ServiceCall, effect: Effect[T]) -> T | None:
        try:
            if effect.find is None:
                message = f"An earlier attempt began {intent.service}, and whether it took effect is not known."
                raise ServiceError("outcome_unknown", message)
            found = await effect.find(intent.key, prior.via)
            if found is None:
                self._require_silence(prior, intent)
            return found
        except ServiceError as error:
            if error.kind == "outcome_unknown" and self.resends_unknown:
                return None  # nobody can say, and the definition wants it done again then
            await self._leave_open(call, error.kind)
            raise

    def _require_silence(self, prior: Prior, intent: Intent) -> None:
        """That a provider has nothing says nothing while a frozen attempt may still wake up and hand it over."""
        if prior.live_until is None:
            return
        quiet_at = prior.live_until + _LATE
        left = quiet_at - datetime.now(UTC)
        if left > timedelta():
            self._awaited.append(quiet_at)
            message = (
                f"An earlier attempt, which was lost, began {intent.service}, and {prior.via} does not have it so far. "
                "It may be sent until that attempt's time is up; the next attempt looks again after "
                f"{left.total_seconds():.0f} s. This one does not count."
            )
            raise UnsettledError(message, retry_after=left)

    async def _carry_out(
        self, intent: Intent, call: ServiceCall, effect: Effect[T], work: Callable[[Handle], Awaitable[T]]
    ) -> T:
        cutoff = self.cutoff
        try:
            result = await work(Handle(intent, self.records, self.deadline + self.clean_up))
        except ServiceError as error:
            is_open = error.kind == "outcome_unknown" or isinstance(error, OpenError)
            if is_open and datetime.now(UTC) >= cutoff:
                await self._leave_open(call, "outcome_unknown")  # cut off: a provider's thread may go on
            elif is_open:
                await self._finish(intent, call, "outcome_unknown", "intended", None)
            else:
                await self._finish(intent, call, error.kind, "failed", None)
            if error.kind == "outcome_unknown" and self.resends_unknown:
                raise UnsettledError(f"{error} The definition says to do it again.") from error
            raise
        except BaseException:
            # Cancelled, or a fault of core's own, in the middle: nobody knows.
            await self._leave_open(call, "outcome_unknown")
            raise
        dumped = effect.result.dump_json(result)
        state: EffectState = "failed" if effect.is_failure(result) else "done"
        await self._finish(intent, call, "ok", state, dumped if len(dumped) <= MAX_RESULT_BYTES else None)
        return result

    async def _finish(
        self, intent: Intent, call: ServiceCall, outcome: str, state: EffectState, result: bytes | None
    ) -> None:
        ended = replace(call, outcome=outcome)
        await asyncio.shield(asyncio.ensure_future(self.records.finish(intent, ended, state, result)))

    async def _leave_open(self, call: ServiceCall, outcome: str) -> None:
        """Audit how a call went after which the record of its effect stays as it is."""
        await asyncio.shield(asyncio.ensure_future(self.records.call(replace(call, outcome=outcome))))

    def _check(self, asked: Asked) -> None:
        self.require_open()
        missing = [scope for scope in asked.scopes if scope not in self._granted]
        if missing:
            message = (
                f"The scope {missing[0]!r} is not granted. The capability and plugin.toml must declare it, "
                "and an admin must grant it to the plugin."
            )
            raise ServiceError("denied", message)

    @property
    def _granted(self) -> list[str]:
        return sorted(self.granted_scopes & self.capability_scopes)

    def _call(self, asked: Asked, outcome: str) -> ServiceCall:
        return ServiceCall(
            service=asked.service,
            requested_scopes=tuple(asked.scopes),
            granted_scopes=self._granted,
            outcome=outcome,
            actor_id=asked.actor_id,
            detail=asked.detail,
        )


def _hash(text: str) -> str:
    return hashlib.sha256(without_addresses(text.encode("utf-8", "surrogatepass"))).hexdigest()


@dataclass(frozen=True)
class _Known(Generic[T]):
    value: T

"""The record of service calls, kept in memory."""

import threading
from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from latchflow.runtime.guard import EffectState, Intent, Prior, ServiceCall
from latchflow.sdk import ServiceError


@dataclass
class MemoryRecords:
    """Implements `latchflow.runtime.guard.Records` as Postgres does, for all attempts of one invocation.

    Attributes:
        calls: Every audited call, in order, with its outcome.
        threads: The name of the thread each was audited on.
        effects: What is known of each effect, by its key.
        attempts: By invocation, the number of the attempt that may have effects: the latest.
        writers: By effect, the attempt it belongs to: the latest that came to it.
    """

    calls: list[ServiceCall] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    effects: dict[str, Prior] = field(default_factory=dict)
    attempts: Counter[UUID] = field(default_factory=Counter)
    writers: Counter[str] = field(default_factory=Counter)

    @property
    def outcomes(self) -> list[str]:
        """How the calls went, without the entries that only announce an effect."""
        return [call.outcome for call in self.calls if call.outcome != "intended"]

    def attempt(self, invocation_id: UUID) -> "AttemptRecords":
        """The records of the next attempt at an invocation; from now on the one before has no effect any more."""
        self.attempts[invocation_id] += 1
        return AttemptRecords(self, invocation_id, self.attempts[invocation_id])

    async def call(self, call: ServiceCall) -> None:
        """Audit a call."""
        self.calls.append(call)
        self.threads.append(threading.current_thread().name)

    async def begin(self, intent: Intent, call: ServiceCall) -> Prior:
        """Write an effect down as intended."""
        prior = self.effects.get(intent.key, Prior(state="new", target=intent.target))
        outcome = "intended"
        if prior.is_another(intent):
            is_unclear = prior.target == intent.target and prior.state == "intended"
            outcome = "outcome_unknown" if is_unclear else "fatal"
        elif prior.state == "done":
            outcome = "ok"
        elif prior.state in ("new", "failed"):
            self.effects[intent.key] = Prior(state="intended", target=intent.target, content=intent.content)
        await self.call(replace(call, outcome=outcome))
        return prior

    async def via(self, intent: Intent, provider: str, *, live_until: datetime) -> None:
        """Write down where it goes, and until when."""
        self.effects[intent.key] = replace(self.effects[intent.key], via=provider, live_until=live_until)

    async def finish(self, intent: Intent, call: ServiceCall, state: EffectState, result: bytes | None) -> None:
        """Write down what became of it; what is done stays done."""
        if self.effects[intent.key].state == "done":
            return
        self.effects[intent.key] = replace(self.effects[intent.key], state=state, result=result, live_until=None)
        await self.call(call)


class AttemptRecords:
    """The records as one attempt may write them: nothing begins once it has ended, or a later one has begun.

    Attributes:
        number: Of the attempt, from 1.
    """

    def __init__(self, records: MemoryRecords, invocation_id: UUID, number: int) -> None:
        self._records = records
        self._invocation_id = invocation_id
        self.number = number
        self._is_ended = False

    def end(self) -> None:
        """The attempt is over."""
        self._is_ended = True

    async def call(self, call: ServiceCall) -> None:
        """As `MemoryRecords.call`."""
        await self._records.call(call)

    async def begin(self, intent: Intent, call: ServiceCall) -> Prior:
        """As `MemoryRecords.begin`. Raises ServiceError: ``denied``: the attempt is over."""
        self._require_claim()
        self._records.writers[intent.key] = self.number
        return await self._records.begin(intent, call)

    async def via(self, intent: Intent, provider: str, *, live_until: datetime) -> None:
        """As `MemoryRecords.via`. Raises as `begin`."""
        self._require_claim()
        await self._records.via(intent, provider, live_until=live_until)

    async def finish(self, intent: Intent, call: ServiceCall, state: EffectState, result: bytes | None) -> None:
        """As `MemoryRecords.finish`; where a later attempt came to the effect, only that it is done counts."""
        if state == "done" or self._records.writers[intent.key] <= self.number:
            await self._records.finish(intent, call, state, result)

    def _require_claim(self) -> None:
        if self._is_ended or self._records.attempts[self._invocation_id] != self.number:
            raise ServiceError("denied", "The attempt is over: its time was up, or another one has begun.")

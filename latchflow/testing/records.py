"""The record of service calls, kept in memory."""

import threading
from dataclasses import dataclass, field, replace

from latchflow.runtime.guard import EffectState, Intent, Prior, ServiceCall


@dataclass
class MemoryRecords:
    """Implements `latchflow.runtime.guard.Records` as Postgres does, for all attempts of one invocation.

    Attributes:
        calls: Every audited call, in order, with its outcome.
        threads: The name of the thread each was audited on.
        effects: What is known of each effect, by its key.
    """

    calls: list[ServiceCall] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    effects: dict[str, Prior] = field(default_factory=dict)

    @property
    def outcomes(self) -> list[str]:
        """How the calls went, without the entries that only announce an effect."""
        return [call.outcome for call in self.calls if call.outcome != "intended"]

    async def call(self, call: ServiceCall) -> None:
        """Audit a call."""
        self.calls.append(call)
        self.threads.append(threading.current_thread().name)

    async def begin(self, intent: Intent, call: ServiceCall) -> Prior:
        """Write an effect down as intended."""
        prior = self.effects.get(intent.key, Prior(state="new", target=intent.target))
        if prior.target == intent.target and prior.state in ("new", "failed"):
            self.effects[intent.key] = Prior(state="intended", target=intent.target)
        outcome = "fatal" if prior.target != intent.target else "ok" if prior.state == "done" else "intended"
        await self.call(replace(call, outcome=outcome))
        return prior

    async def via(self, intent: Intent, provider: str) -> None:
        """Write down where it goes."""
        self.effects[intent.key] = replace(self.effects[intent.key], via=provider)

    async def finish(self, intent: Intent, call: ServiceCall, state: EffectState, result: bytes | None) -> None:
        """Write down what became of it."""
        self.effects[intent.key] = replace(self.effects[intent.key], state=state, result=result)
        await self.call(call)

"""A resident trigger that listens in the harness, and what it emits."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid5

from latchflow.runtime.invoking.resident import ResidentDefinition, ResidentHost
from latchflow.runtime.lifecycle.registry import LoadedResident
from latchflow.sdk import Accepted, Emission
from latchflow.testing.host import HostLoop

_TRIGGER = UUID(int=2)


@dataclass
class Listening:
    """A trigger that was started.

    Attributes:
        emissions: What it emitted, in order, without those whose key was there before.
        cursor: What the last emission stored.
    """

    resident: LoadedResident
    config: Mapping[str, Any]
    host_loop: HostLoop
    cursor: Any = None
    emissions: list[Emission] = field(default_factory=list)
    _came: threading.Condition = field(default_factory=threading.Condition)
    _host: ResidentHost | None = None

    def until(self, count: int, *, within_seconds: float = 5) -> list[Emission]:
        """Wait until it has emitted so often.

        Raises:
            AssertionError: It has not, in time.
        """
        with self._came:
            if not self._came.wait_for(lambda: len(self.emissions) >= count, within_seconds):
                raise AssertionError(f"it emitted {len(self.emissions)} times within {within_seconds} s, not {count}")
            return list(self.emissions)

    def restart(self) -> None:
        """Stop it and start another instance, which finds the cursor of the last emission.

        Raises:
            ResidentError: It did not start.
        """
        self.host_loop.run(self._restarted())

    def reconfigure(self, config: Mapping[str, Any]) -> None:
        """Hand it a changed config, as after a change of its definition.

        Raises:
            ResidentError: It failed, and is stopped.
        """
        self.config = dict(config)
        self.host_loop.run(self._required().reconfigure(self._definition()))

    async def start(self) -> None:
        """Start it, on the host's loop."""
        self._host = ResidentHost(self._accept)
        await self._host.start(self.resident, self._definition())

    async def stop(self) -> None:
        """Stop it, on the host's loop."""
        if self._host is not None:
            await self._host.stop()

    async def _restarted(self) -> None:
        await self.stop()
        await self.start()

    async def _accept(self, emission: Emission) -> Accepted:
        key = emission.key if emission.key is not None else str(len(self.emissions))
        with self._came:
            is_duplicate = emission.key is not None and any(emission.key == known.key for known in self.emissions)
            if not is_duplicate:
                self.emissions.append(emission)
            if emission.cursor is not None:
                self.cursor = emission.cursor
            self._came.notify_all()
        return Accepted(event_id=uuid5(_TRIGGER, key), is_duplicate=is_duplicate)

    def _definition(self) -> ResidentDefinition:
        return ResidentDefinition(trigger_id=_TRIGGER, config=self.config, cursor=self.cursor)

    def _required(self) -> ResidentHost:
        assert self._host is not None, "it was not started"  # noqa: S101
        return self._host

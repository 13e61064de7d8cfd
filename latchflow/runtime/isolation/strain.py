"""What plugins have cost this process: threads that nobody waits for any more, loops that were replaced."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

MOST_LISTED = 20

_SETTLING_SECONDS = 2.0
"""A thread that was asked to end gets this long before it counts against the process."""


@dataclass(frozen=True, kw_only=True)
class LeftoverThread:
    """A thread that outlived what it was for.

    Attributes:
        capability: The action it carried out; None for a loop that was replaced.
        since: Of ``time.monotonic``.
        left_at: The same for people.
    """

    thread: threading.Thread
    plugin: str
    capability: str | None
    since: float
    left_at: datetime


class Strain:
    """Counted for one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._threads: list[LeftoverThread] = []
        self._replaced: Counter[str] = Counter()
        self._last: dict[str, dict[str, str]] = {}

    def leave(self, thread: threading.Thread, *, plugin: str, capability: str | None) -> None:
        """Nobody waits for this thread any more; it counts while it lives."""
        left = LeftoverThread(
            thread=thread, plugin=plugin, capability=capability, since=time.monotonic(), left_at=datetime.now(UTC)
        )
        with self._lock:
            self._threads = [*self._living(), left]

    def replace(self, plugin: str, place: str) -> None:
        """A loop of this plugin was replaced, because it was blocked at this place."""
        with self._lock:
            self._replaced[plugin] += 1
            self._last[plugin] = {"lastPlace": place, "lastAt": datetime.now(UTC).isoformat()}

    def leftover(self, *, for_seconds: float = 0.0) -> Sequence[LeftoverThread]:
        """The threads left over for at least this long, the oldest first."""
        until = time.monotonic() - for_seconds
        with self._lock:
            self._threads = self._living()
            return [left for left in self._threads if left.since <= until]

    def is_too_much_for(self, slots: int) -> bool:
        """Whether threads are left over for half as many as there are slots for actions."""
        return 2 * len(self.leftover(for_seconds=_SETTLING_SECONDS)) >= slots

    def report(self) -> dict[str, Any]:
        """As ``processes.stats`` keeps it."""
        leftover = self.leftover()
        with self._lock:
            replaced = self._replaced.most_common(MOST_LISTED)
            return {
                "leftoverThreads": len(leftover),
                "leftover": [
                    {"plugin": left.plugin, "capability": left.capability, "since": left.left_at.isoformat()}
                    for left in leftover[:MOST_LISTED]
                ],
                "replacedLoops": self._replaced.total(),
                "replaced": [{"plugin": plugin, "times": times, **self._last[plugin]} for plugin, times in replaced],
            }

    def _living(self) -> list[LeftoverThread]:
        return [left for left in self._threads if left.thread.is_alive()]


STRAIN = Strain()
"""That of this process."""

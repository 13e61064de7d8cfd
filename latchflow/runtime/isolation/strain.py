"""What plugins have cost this process: threads and tasks that nobody waits for any more, loops that were replaced."""

import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil
from typing import Any, Protocol

EXIT_STATUS = 75
"""Of ``sysexits.h`` (try again): what plugins left over takes too much of the process, which has to be started anew."""

MOST_LISTED = 20

MOST_OF_ONE = 32
"""What one attempt leaves over counts once, up to so much: no attempt may begin threads without end."""

_SETTLING_SECONDS = 2.0
"""What was asked to end gets this long before it counts against the process."""


class Living(Protocol):
    """A thread is one."""

    def is_alive(self) -> bool:
        """Whether it goes on."""
        ...


@dataclass(frozen=True, kw_only=True)
class Leftover:
    """A thread, or a task on a plugin's loop, that outlived what it was for.

    Attributes:
        living: The thread or task.
        capability: The action it carried out, or the name of the function; None for a loop that was replaced.
        since: Of ``time.monotonic``.
        left_at: The same for people.
        of: What left it over: an attempt, for instance.
    """

    living: Living
    plugin: str
    capability: str | None
    since: float
    left_at: datetime
    of: object

    @property
    def is_thread(self) -> bool:
        """Whether it is a thread; else a task."""
        return isinstance(self.living, threading.Thread)


class Strain:
    """Counted for one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._leftover: list[Leftover] = []
        self._replaced: Counter[str] = Counter()
        self._last: dict[str, dict[str, str]] = {}
        self._is_draining = False

    def leave(self, living: Living, *, plugin: str, capability: str | None, of: object | None = None) -> None:
        """Nobody waits for this any more; it counts while it lives, as one with what else is left over of the same."""
        left = Leftover(
            living=living,
            plugin=plugin,
            capability=capability,
            since=time.monotonic(),
            left_at=datetime.now(UTC),
            of=living if of is None else of,
        )
        with self._lock:
            self._leftover = [*self._living(), left]

    def replace(self, plugin: str, place: str) -> None:
        """A loop of this plugin was replaced, because it was blocked at this place."""
        with self._lock:
            self._replaced[plugin] += 1
            self._last[plugin] = {"lastPlace": place, "lastAt": datetime.now(UTC).isoformat()}

    def leftover(self, *, for_seconds: float = 0.0) -> Sequence[Leftover]:
        """What has been left over for at least this long, the oldest first."""
        until = time.monotonic() - for_seconds
        with self._lock:
            self._leftover = self._living()
            return [left for left in self._leftover if left.since <= until]

    def is_too_much_for(self, slots: int) -> bool:
        """Whether half as many attempts left something over as there are slots for them."""
        by_cause = Counter(id(left.of) for left in self.leftover(for_seconds=_SETTLING_SECONDS))
        return 2 * sum(ceil(number / MOST_OF_ONE) for number in by_cause.values()) >= slots

    def drain(self) -> None:
        """From now on the process takes no work, and ends with what it has."""
        self._is_draining = True

    def report(self) -> dict[str, Any]:
        """As ``processes.stats`` keeps it."""
        leftover = self.leftover()
        threads = sum(left.is_thread for left in leftover)
        with self._lock:
            replaced = self._replaced.most_common(MOST_LISTED)
            return {
                "draining": self._is_draining,
                "leftoverThreads": threads,
                "leftoverTasks": len(leftover) - threads,
                "leftover": [
                    {"plugin": left.plugin, "capability": left.capability, "since": left.left_at.isoformat()}
                    for left in leftover[:MOST_LISTED]
                ],
                "replacedLoops": self._replaced.total(),
                "replaced": [{"plugin": plugin, "times": times, **self._last[plugin]} for plugin, times in replaced],
            }

    def _living(self) -> list[Leftover]:
        return [left for left in self._leftover if left.living.is_alive()]


STRAIN = Strain()
"""That of this process."""

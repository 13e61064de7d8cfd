"""Pure decisions of the gate: whether an event runs, waits for its turn or is skipped."""

from dataclasses import dataclass
from enum import StrEnum

PAUSED = "paused"
MAX_RUNNING_EVENTS = "max_running_events"


class Overlap(StrEnum):
    """What a trigger wants when it fires while an event of it has not ended."""

    ALLOW_ALL = "allow_all"
    SKIP = "skip"
    BUFFER_ONE = "buffer_one"
    CANCEL_OTHER = "cancel_other"


class Verdict(StrEnum):
    """What dispatch decided of an event when it opened."""

    RUN = "run"
    WAIT = "wait"
    SKIP = "skip"


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What decides: two options of the trigger, and the pause of everything.

    Attributes:
        max_running_events: How many events of the trigger run at once; None for any number.
    """

    overlap: Overlap = Overlap.ALLOW_ALL
    max_running_events: int | None = None
    is_paused: bool = False

    @property
    def capacity(self) -> int | None:
        """How many of its events run at once, the pause aside: one, unless overlapping is allowed."""
        return self.max_running_events if self.overlap is Overlap.ALLOW_ALL else 1

    @property
    def lets_all_run(self) -> bool:
        """Whether an event runs whatever else there is."""
        return self.capacity is None and not self.is_paused


@dataclass(frozen=True, kw_only=True)
class Load:
    """The open events of a trigger, each number counted no further than a decision needs it.

    Attributes:
        running: Those that were let in, started or not.
        waiting: Those that wait for their turn.
    """

    running: int
    waiting: int


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A verdict and what caused it.

    Attributes:
        reason: ``paused``, ``max_running_events`` or the overlap; None when nothing stood in the way.
        cancels_others: Every other open event of the trigger is to be cancelled.
    """

    verdict: Verdict
    reason: str | None = None
    cancels_others: bool = False


_BUFFERED = 2
"""Open events with which ``buffer_one`` is full: one that runs, one that waits."""


def decide(rule: Rule, load: Load) -> Decision:
    """What becomes of a new event."""
    opened = load.running + load.waiting
    if rule.overlap is Overlap.SKIP and opened:
        return Decision(verdict=Verdict.SKIP, reason=rule.overlap)
    if rule.overlap is Overlap.BUFFER_ONE and opened >= _BUFFERED:
        return Decision(verdict=Verdict.SKIP, reason=rule.overlap)
    cancels_others = rule.overlap is Overlap.CANCEL_OTHER and opened > 0
    if rule.is_paused:
        return Decision(verdict=Verdict.WAIT, reason=PAUSED, cancels_others=cancels_others)
    if cancels_others:
        verdict = Verdict.WAIT if load.running else Verdict.RUN
        return Decision(verdict=verdict, reason=rule.overlap, cancels_others=True)
    # Those that wait came before it.
    if rule.capacity is not None and (load.waiting or load.running >= rule.capacity):
        reason = MAX_RUNNING_EVENTS if rule.overlap is Overlap.ALLOW_ALL else rule.overlap
        return Decision(verdict=Verdict.WAIT, reason=reason)
    return Decision(verdict=Verdict.RUN)


def room(rule: Rule, load: Load) -> int:
    """How many of those that wait may start now."""
    if rule.is_paused:
        return 0
    return load.waiting if rule.capacity is None else max(0, min(load.waiting, rule.capacity - load.running))


def needed(rule: Rule) -> int:
    """How far a `Load` has to be counted."""
    return max(rule.capacity or 0, _BUFFERED)

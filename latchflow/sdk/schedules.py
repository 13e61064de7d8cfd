"""What a scheduled trigger answers: when it fires."""

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """When to fire: either a recurring `expression` or once `at` a time.

    Attributes:
        expression: Five fields in the standard sense, or a nickname like ``@hourly``.
        timezone: IANA name of the zone the expression is read in.
        at: A single time (UTC).
        catchup_window: How long after its time a fire that was missed is still made up for.
        jitter: Each fire is put off by a random part of it.
    """

    expression: str | None = None
    timezone: str = "UTC"
    at: datetime | None = None
    catchup_window: timedelta = timedelta(hours=1)
    jitter: timedelta = timedelta()

    def __post_init__(self) -> None:
        if (self.expression is None) == (self.at is None):
            raise ValueError("a Schedule has either an expression or a time `at`")
        if self.at is not None and self.at.utcoffset() is None:
            raise ValueError("Schedule.at must know its time zone, for example datetime(..., tzinfo=UTC)")

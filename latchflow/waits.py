"""What a delay or an approval waits for, as a pipeline says it: checked when it is saved, read when it is reached."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import TypeAdapter, ValidationError

LONGEST_WAIT = timedelta(days=365)

_DURATION = TypeAdapter(timedelta)
_MOMENT = TypeAdapter(datetime)


def duration_of(text: str) -> timedelta:
    """Read an ISO 8601 duration like ``PT5M`` or ``P3D``.

    Raises:
        ValueError: It is none, not above zero, or longer than a year.
    """
    try:
        duration = _DURATION.validate_python(text) if text.startswith("P") else None
    except ValidationError:
        duration = None
    if duration is None:
        raise ValueError(f"{text!r} is no ISO 8601 duration. Write one like PT5M or P3D.")
    if not timedelta(0) < duration <= LONGEST_WAIT:
        raise ValueError(f"{text!r} is not between an instant and a year ({LONGEST_WAIT.days} days).")
    return duration


def moment_of(value: Any) -> datetime | None:
    """Read an RFC 3339 time with its offset; None when it is none."""
    if not isinstance(value, str) or len(value) < len("2026-01-01T00:00Z") or not value[:4].isdigit():
        return None
    try:
        moment = _MOMENT.validate_python(value)
    except ValidationError:
        return None
    return None if moment.tzinfo is None else moment.astimezone(UTC)


def approval_deadline(wait: Mapping[str, Any], now: datetime) -> datetime | None:
    """When an approval that is asked for now gives up; None: never."""
    timeout = wait.get("timeout")
    return None if timeout is None else now + duration_of(timeout)

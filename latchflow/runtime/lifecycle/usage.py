"""What a loaded version of a plugin is doing, and has done: its calls in flight, and numbers per capability."""

import asyncio
import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

_WINDOW = 512
_MAX_MESSAGE = 500
_ERRORS = frozenset({"RETRYING", "FAILED", "FAILED_PERMANENT", "TIMED_OUT"})
_COUNTED = _ERRORS | {"SUCCEEDED"}


class Uses:
    """Counts the calls in flight: a context manager around each, on the host's loop only."""

    def __init__(self) -> None:
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def __enter__(self) -> None:
        self._count += 1
        self._idle.clear()

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        self._count -= 1
        if self._count == 0:
            self._idle.set()

    async def until_idle(self) -> None:
        """Wait until no call is in flight."""
        while self._count:
            await self._idle.wait()


class CapabilityStats:
    """Numbers of one capability in one process since its version was loaded."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._durations: deque[float] = deque(maxlen=_WINDOW)
        self._last_error: dict[str, str] | None = None

    def record(self, phase: str, duration_seconds: float, error: Mapping[str, Any] | None = None) -> None:
        """Count one ended attempt, or one request that was read.

        Args:
            phase: How it ended.
            duration_seconds: How long it took.
            error: ``type`` and ``message``, secrets masked.
        """
        self._counts[phase] += 1
        self._durations.append(round(duration_seconds * 1000, 1))
        if error is not None and phase in _ERRORS:
            self._last_error = {
                "type": str(error.get("type", "")),
                "message": str(error.get("message", ""))[:_MAX_MESSAGE],
                "at": datetime.now(UTC).isoformat(),
            }

    def as_json(self) -> dict[str, Any]:
        """As `merged` takes it."""
        return {"counts": dict(self._counts), "durations": list(self._durations), "lastError": self._last_error}


class PluginStats:
    """The numbers of one loaded version."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], CapabilityStats] = {}

    def of(self, kind: str, key: str) -> CapabilityStats:
        """Those of one capability; `kind` is TRIGGER or ACTION."""
        return self._of.setdefault((kind, key), CapabilityStats())

    def as_json(self) -> dict[str, Any]:
        """By ``KIND/key``, for the row of the process."""
        return {f"{kind}/{key}": stats.as_json() for (kind, key), stats in self._of.items()}


def merged(reported: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What several processes reported of one capability, as people read it.

    Returns:
        ``counts`` by phase, ``error_rate`` (of the attempts that succeeded or failed; None when there were none),
        ``duration_ms`` with ``p50`` and ``p95`` over the last durations of each process, ``last_error``.
    """
    parts = list(reported)
    counts: Counter[str] = Counter()
    for part in parts:
        counts.update(part.get("counts", {}))
    total = sum(counts[phase] for phase in _COUNTED)
    durations = sorted(value for part in parts for value in part.get("durations", ()))
    errors = [part["lastError"] for part in parts if part.get("lastError")]
    return {
        "counts": dict(sorted(counts.items())),
        "error_rate": round(sum(counts[phase] for phase in _ERRORS) / total, 4) if total else None,
        "duration_ms": {"p50": _percentile(durations, 0.50), "p95": _percentile(durations, 0.95)},
        "last_error": max(errors, key=lambda error: error["at"], default=None),
    }


def _percentile(ordered: list[float], share: float) -> float | None:
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None

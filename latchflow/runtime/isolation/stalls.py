"""Ending an attempt whose action reports no progress."""

import asyncio
import time
from collections.abc import Callable
from typing import Any


class Stall:
    """An asynchronous context that ends with ``TimeoutError`` when `heartbeat` was not called for too long.

    A heartbeat only notes its time: it comes from another thread, maybe a thousand times a second.

    Args:
        limit_seconds: How long; None for ever.
        heartbeat: Is handed each progress.
    """

    def __init__(self, limit_seconds: float | None, heartbeat: Callable[[Any], None]) -> None:
        self._limit_seconds = limit_seconds
        self._heartbeat = heartbeat
        self._seen_at = 0.0
        self._timeout = asyncio.timeout(None)
        self._timer: asyncio.TimerHandle | None = None

    def heartbeat(self, progress: Any) -> None:
        """Take a progress; it raises what `heartbeat` does, and then counts for nothing."""
        self._heartbeat(progress)
        self._seen_at = time.monotonic()

    async def __aenter__(self) -> None:
        self._seen_at = time.monotonic()
        await self._timeout.__aenter__()
        if self._limit_seconds is not None:
            self._look_in(self._limit_seconds)

    async def __aexit__(self, *error: Any) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._timeout.__aexit__(*error)

    def _look_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look)

    def _look(self) -> None:
        left = self._seen_at + (self._limit_seconds or 0.0) - time.monotonic()
        if left > 0:
            self._look_in(left)
        else:
            self._timeout.reschedule(0)

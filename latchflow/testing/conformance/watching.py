"""Whether a plugin holds its loop up while it runs, and whether something goes on there afterwards."""

import asyncio
import sys
import threading
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import FrameType

from latchflow.runtime.isolation.loops import PluginLoop

LIMIT_SECONDS = 0.5
_PAUSE_SECONDS = 0.02


class Watched:
    """Where the loop stood when it did not answer for half a second; None: it always did."""

    blocked_at: str | None = None


@asynccontextmanager
async def watched(loop: PluginLoop) -> AsyncIterator[Watched]:
    """Watch the loop while the block runs."""
    seen = Watched()
    ident = await loop.call(_ident)
    watching = asyncio.create_task(_watch(loop, ident, seen))
    try:
        yield seen
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def tasks_of(loop: PluginLoop) -> int:
    """How many tasks are under way on the loop."""
    count: int = await loop.call(_tasks)
    return count


async def _watch(loop: PluginLoop, ident: int, seen: Watched) -> None:
    while seen.blocked_at is None:
        tick = asyncio.ensure_future(loop.call(_ident))
        try:
            done, _ = await asyncio.wait([tick], timeout=LIMIT_SECONDS)
            if not done:
                seen.blocked_at = _place(sys._current_frames().get(ident))
        finally:
            await asyncio.wait([tick])
        await asyncio.sleep(_PAUSE_SECONDS)


async def _ident() -> int:
    return threading.get_ident()


async def _tasks() -> int:
    return len(asyncio.all_tasks()) - 1


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return "an unknown place"
    frames = traceback.extract_stack(frame)
    own = [entry for entry in frames if "/asyncio/" not in entry.filename and "latchflow/runtime" not in entry.filename]
    last = (own or list(frames))[-1]
    return f"{last.filename}:{last.lineno}"

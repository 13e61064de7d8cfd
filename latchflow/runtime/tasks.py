"""Ending background tasks."""

import asyncio
from typing import Any

_AGAIN_SECONDS = 0.5


async def end_task(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait for its end.

    One request is not enough: before Python 3.12, ``asyncio.wait_for``, which the database's client waits with, loses
    one that comes while what it waits for arrives.
    """
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)

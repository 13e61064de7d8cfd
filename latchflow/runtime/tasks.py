"""Ending background tasks."""

import asyncio
from collections.abc import Coroutine
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


async def until_done(work: Coroutine[Any, Any, None]) -> None:
    """Do something to its end, whoever asks meanwhile to cancel; the request is passed on afterwards."""
    task = asyncio.ensure_future(work)
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError
    task.result()

"""Core heartbeats for the plugin: a killed worker is noticed, and a cancellation reaches a plugin that never asks."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from temporalio import activity

from latchflow.masking import readable_json
from latchflow.temporal import policies

_MAX_BYTES = 32 * 1024


class Beat:
    """The progress a plugin reported last. Set from any thread; the next heartbeat carries it."""

    def __init__(self) -> None:
        self.progress: Any = None

    def report(self, progress: Any) -> None:
        """Keep the progress for the next heartbeat.

        Raises:
            TypeError: It cannot be written as JSON. A heartbeat that cannot be sent would end the attempt.
            ValueError: It cannot be written as JSON, or is over 32 KiB.
        """
        written = json.dumps(progress, allow_nan=False)
        if len(written) > _MAX_BYTES:
            raise ValueError(f"The progress has {len(written)} bytes; at most {_MAX_BYTES} are kept. Report less.")
        # What was measured, not the plugin's object, which may be another one by now.
        self.progress = readable_json(json.loads(written))


@asynccontextmanager
async def beating() -> AsyncIterator[Beat]:
    """Heartbeat every two seconds until the block ends."""
    beat = Beat()
    task = asyncio.create_task(_beat(beat))
    try:
        yield beat
    finally:
        task.cancel()


async def _beat(beat: Beat) -> None:
    while True:
        if beat.progress is None:
            activity.heartbeat()
        else:
            activity.heartbeat(beat.progress)
        await asyncio.sleep(policies.HEARTBEAT_INTERVAL.total_seconds())

"""The loop that stands for the worker's: services live on it, plugin code runs elsewhere."""

import asyncio
import threading
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class HostLoop:
    """A loop in a thread of its own, so that tests need not be asynchronous."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="host", daemon=True)
        self._thread.start()

    def run(self, work: Awaitable[T]) -> T:
        """Run it there and wait for its result."""
        return asyncio.run_coroutine_threadsafe(_awaited(work), self.loop).result()

    def close(self) -> None:
        """Stop the loop."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        self.loop.run_until_complete(asyncio.sleep(0))  # what was about to end
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()


async def _awaited(work: Awaitable[T]) -> T:
    return await work

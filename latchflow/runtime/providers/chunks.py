"""Chunks of content that are made on one event loop and wanted on another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any


class OwnedChunks:
    """Chunks whose owner is one loop; the coroutines run there.

    A call that was cancelled elsewhere may still be ending here, so each waits for the one before.
    """

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._turn = asyncio.Lock()

    async def next(self) -> bytes | None:
        """The next chunk; None at the end."""
        async with self._turn:
            return await anext(self._chunks, None)

    async def next_on(self, owner: asyncio.AbstractEventLoop) -> bytes | None:
        """As `next`, for callers on another loop."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.next(), owner))

    async def close(self) -> None:
        """Let go of what they come from."""
        async with self._turn:
            await close(self._chunks)


@asynccontextmanager
async def closed_at_end(chunks: Any) -> AsyncIterator[None]:
    """Close what gives chunks, if it can be closed, when the block ends."""
    try:
        yield
    finally:
        await close(chunks)


async def close(chunks: Any) -> None:
    """Close what gives chunks, if it can be closed."""
    closing = getattr(chunks, "aclose", None)
    if closing is not None:
        await closing()

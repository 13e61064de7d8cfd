"""Storage providers of plugins: their code runs on the plugin's loop, their content crosses over chunk by chunk."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from latchflow.runtime.providers.chunks import OwnedChunks, closed_at_end
from latchflow.sdk import ServiceError, StorageProvider, StorageUpload

_LONGEST = timedelta(days=1)
"""Of one transfer. What stands still is noticed by the client of the provider, and by whoever waits for the content."""
_LONGEST_REMOVAL = timedelta(minutes=1)
_AHEAD = 2
"""Chunks that a provider may have read before they are wanted."""


class Running(Protocol):
    """A provider that is ready."""

    @property
    def name(self) -> str:
        """Its name in records; the same for good."""
        ...

    @property
    def instance(self) -> Any:
        """What the plugin's class made."""
        ...

    async def call(self, function: Callable[..., Any], *arguments: Any, deadline: datetime, unknown: bool) -> Any:
        """Call a coroutine function on the plugin's loop."""
        ...


class RunningProviders(Protocol):
    """The providers of this process; one is not put away while the block runs that it was asked for in."""

    def active(self, kind: str) -> AbstractAsyncContextManager[Running | None]:
        """The provider of a kind that is in use."""
        ...

    async def is_wanted(self, kind: str) -> bool:
        """Whether somebody configured a provider of a kind, usable or not."""
        ...

    def named(self, kind: str, name: str) -> AbstractAsyncContextManager[Running | None]:
        """A provider by its name in records."""
        ...


class StorageProviders:
    """Implements `latchflow.services.storage.Providers`."""

    def __init__(self, providers: RunningProviders) -> None:
        self._providers = providers

    @asynccontextmanager
    async def active(self) -> AsyncIterator[tuple[str, StorageProvider] | None]:
        """The one that new objects go to.

        Raises:
            ServiceError: ``retryable`` when one is configured and none can be used now: what is stored meanwhile must
                not land on the disk of whichever machine.
        """
        async with self._providers.active("storage") as running:
            if running is None and await self._providers.is_wanted("storage"):
                message = "A storage provider is configured, and cannot be used now. An admin sees why at its plugin."
                raise ServiceError("retryable", message)
            yield None if running is None else (running.name, RunningStorage(running))

    @asynccontextmanager
    async def named(self, name: str) -> AsyncIterator[StorageProvider | None]:
        """The one of this name."""
        async with self._providers.named("storage", name) as running:
            yield None if running is None else RunningStorage(running)


class RunningStorage:
    """Implements `latchflow.sdk.StorageProvider` for callers on the host's loop."""

    def __init__(self, running: Running) -> None:
        self._running = running

    async def put(self, upload: StorageUpload) -> None:
        """Let the provider read the content, which is made here."""
        source = OwnedChunks(aiter(upload.chunks))
        content = _elsewhere(source, asyncio.get_running_loop())
        await self._call(self._running.instance.put, replace(upload, chunks=content))

    async def get(self, key: str) -> AsyncIterator[bytes]:
        """Read from the provider, two chunks ahead at most; one call of it for the whole content."""
        host = asyncio.get_running_loop()
        arrived: asyncio.Queue[bytes | None] = asyncio.Queue()
        room = asyncio.Semaphore(_AHEAD)

        async def hand_over(chunk: bytes) -> None:
            await room.acquire()
            arrived.put_nowait(chunk)

        async def read() -> None:  # on the plugin's loop
            chunks: AsyncIterable[bytes] = self._running.instance.get(key)
            async with closed_at_end(chunks):
                async for chunk in chunks:
                    if not isinstance(chunk, bytes):
                        message = f"The provider {self._running.name} gave {type(chunk).__name__} instead of bytes."
                        raise ServiceError("fatal", message)
                    await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(hand_over(chunk), host))

        reading = asyncio.ensure_future(self._call(read))
        reading.add_done_callback(lambda _: arrived.put_nowait(None))
        try:
            while (chunk := await arrived.get()) is not None:
                room.release()
                yield chunk
            await reading
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, ServiceError):
                await reading

    async def delete(self, key: str) -> None:
        """Let the provider remove it."""
        await self._call(self._running.instance.delete, key, within=_LONGEST_REMOVAL)

    async def _call(self, function: Callable[..., Any], *arguments: Any, within: timedelta = _LONGEST) -> None:
        await self._running.call(function, *arguments, deadline=datetime.now(UTC) + within, unknown=False)


async def _elsewhere(chunks: OwnedChunks, owner: asyncio.AbstractEventLoop) -> AsyncIterator[bytes]:
    """Chunks of another loop."""
    while (chunk := await chunks.next_on(owner)) is not None:
        yield chunk

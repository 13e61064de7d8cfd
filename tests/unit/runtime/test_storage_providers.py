import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pytest

from latchflow.runtime.isolation.loops import PluginLoop
from latchflow.runtime.providers.storage_providers import RunningStorage, StorageProviders
from latchflow.sdk import ServiceError, StorageUpload
from latchflow.services.upload import Measured, ObjectTooLargeError


@dataclass
class Shelf:
    """A provider as a plugin may bring one."""

    kept: dict[str, bytes] = field(default_factory=dict)
    threads: set[str] = field(default_factory=set)
    given: int = 0
    closed: int = 0

    async def put(self, upload: StorageUpload) -> None:
        content = b""
        async for chunk in upload.chunks:
            self.threads.add(threading.current_thread().name)
            content += chunk
        self.kept[upload.key] = content

    async def get(self, key: str) -> AsyncIterator[bytes]:
        self.threads.add(threading.current_thread().name)
        if key not in self.kept:
            raise ServiceError("not_found", "There is no such thing.")
        try:
            for byte in self.kept[key]:
                self.given += 1
                yield bytes([byte])
        finally:
            self.closed += 1

    async def delete(self, key: str) -> None:
        self.kept.pop(key, None)


@dataclass
class Running:
    """A provider on the loop of its plugin."""

    instance: Shelf
    loop: PluginLoop
    name: str = "acme/shelf"

    async def call(self, function: Callable[..., Any], *arguments: Any, deadline: datetime, unknown: bool) -> Any:
        return await self.loop.call(function, *arguments)

    @asynccontextmanager
    async def active(self, kind: str) -> AsyncIterator["Running | None"]:
        yield self if kind == "storage" else None

    async def is_wanted(self, kind: str) -> bool:
        return kind == "storage"

    @asynccontextmanager
    async def named(self, kind: str, name: str) -> AsyncIterator["Running | None"]:
        yield self if (kind, name) == ("storage", self.name) else None


@pytest.fixture
def running() -> Iterator[Running]:
    loop = PluginLoop("acme")
    yield Running(Shelf(), loop)
    loop.close()


async def chunks_of(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        assert threading.current_thread() is threading.main_thread()
        yield chunk


async def put(running: Running, *chunks: bytes) -> None:
    await RunningStorage(running).put(StorageUpload(key="a/b", chunks=chunks_of(*chunks), content_type="a/b"))


async def test_content_crosses_to_the_loop_of_the_plugin_and_back(running: Running) -> None:
    await put(running, b"one", b"two")
    content = b"".join([chunk async for chunk in RunningStorage(running).get("a/b")])

    assert content == b"onetwo"
    assert running.instance.threads == {"plugin acme"}


async def test_a_reader_that_leaves_lets_the_provider_stop(running: Running) -> None:
    await put(running, bytes(100_000))
    async with aclosing(RunningStorage(running).get("a/b")) as chunks:  # type: ignore[type-var]
        async for _ in chunks:
            break

    async with asyncio.timeout(5):
        while not running.instance.closed:
            await asyncio.sleep(0.005)
    assert running.instance.given < 10


async def test_a_reader_that_is_slow_is_waited_for(running: Running) -> None:
    await put(running, bytes(1000))
    chunks = RunningStorage(running).get("a/b")
    await anext(chunks)
    for _ in range(20):
        await asyncio.sleep(0.005)

    assert running.instance.given <= 5
    assert len([chunk async for chunk in chunks]) == 999


async def test_what_the_provider_raises_arrives(running: Running) -> None:
    with pytest.raises(ServiceError, match="no such thing") as caught:
        await anext(RunningStorage(running).get("absent"))

    assert caught.value.kind == "not_found"


async def test_what_the_source_raises_is_what_the_caller_gets(running: Running) -> None:
    async def report() -> None: ...

    content = Measured(chunks_of(b"x" * 10, b"y" * 10), 15, report)
    with pytest.raises(ObjectTooLargeError):
        await content.hand_to(RunningStorage(running), "a/b", "a/b")

    assert running.instance.kept == {}


async def test_the_one_in_use_and_the_one_that_holds_an_object_are_found_by_name(running: Running) -> None:
    providers = StorageProviders(running)
    await put(running, b"x")

    async with providers.active() as active:
        assert active is not None
        assert active[0] == "acme/shelf"
    async with providers.named("other/shelf") as other:
        assert other is None
    async with providers.named("acme/shelf") as holder:
        assert holder is not None
        await holder.delete("a/b")
    assert running.instance.kept == {}

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from latchflow.runtime.isolation.loops import PluginLoop
from latchflow.sdk import ReleaseLink, ServiceError, Services, StoredObject
from latchflow.testing import MemoryRecords
from tests.support.services import NO_SERVICES, grant_of, services_of

BUNDLE = "6a0f0d4e-0000-4000-8000-000000000001"
_BOTH = ("storage:read", "storage:write")


@dataclass
class World:
    """What reached the backend, and what is on record."""

    records: MemoryRecords = field(default_factory=MemoryRecords)
    kept: dict[str, bytes] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)
    closed: int = 0
    reading: asyncio.Event = field(default_factory=asyncio.Event)

    async def put(
        self, bundle_id: UUID, path: str, chunks: AsyncIterable[bytes], *, content_type: str, actor: str
    ) -> StoredObject:
        assert threading.current_thread() is threading.main_thread()
        content = b"".join([chunk async for chunk in chunks])
        self.kept[path] = content
        return StoredObject(
            bundle_id=bundle_id, path=path, size=len(content), sha256="0" * 64, content_type=content_type
        )

    async def get(self, bundle_id: UUID, path: str) -> AsyncIterator[bytes]:
        if path not in self.kept:
            raise ServiceError("not_found", "There is no such object.")
        try:
            for byte in self.kept[path]:
                yield bytes([byte])
            self.reading.set()
            await asyncio.sleep(30)
        finally:
            self.closed += 1

    async def create_release_link(
        self, bundle_id: UUID, *, expires_in: timedelta, max_downloads: int | None, key: str, actor: str
    ) -> ReleaseLink:
        self.keys.append(key)
        return ReleaseLink(id=bundle_id, url=f"https://x/{len(self.keys)}", expires_at=datetime.now(UTC) + expires_in)

    def attempt(self, *granted: str) -> Services:
        grant = grant_of(granted=granted or _BOTH, declared=_BOTH, records=self.records)
        backend: Any = self
        return services_of(replace(NO_SERVICES, storage=backend), grant)


@pytest.fixture
def loop() -> Iterator[PluginLoop]:
    loop = PluginLoop("acme")
    yield loop
    loop.close()


async def test_an_object_is_made_on_the_plugin_s_loop_and_stored_on_ours(loop: PluginLoop) -> None:
    world = World()
    services = world.attempt()

    async def content() -> AsyncIterator[bytes]:
        assert threading.current_thread().name == "plugin acme"
        yield b"one"
        yield b"two"

    async def act() -> StoredObject:
        return await services.storage.put(BUNDLE, "a", content())

    stored: StoredObject = await loop.call(act)

    assert (stored.size, world.kept) == (6, {"a": b"onetwo"})
    assert world.records.outcomes == ["ok"]
    assert world.records.calls[-1].detail == {"bundleId": BUNDLE}


async def test_a_repeated_attempt_stores_nothing_twice() -> None:
    world = World()
    first = await world.attempt().storage.put(BUNDLE, "a", b"x")
    world.kept.clear()

    assert await world.attempt().storage.put(BUNDLE, "a", b"x") == first
    assert world.kept == {}


async def test_each_method_needs_its_scope() -> None:
    world = World(kept={"a": b"x"})

    with pytest.raises(ServiceError, match="storage:write"):
        await world.attempt("storage:read").storage.put(BUNDLE, "a", b"x")
    for call in (
        anext(world.attempt("storage:write").storage.get(BUNDLE, "a")),
        world.attempt("storage:write").storage.create_release_link(BUNDLE, expires_in=timedelta(hours=1)),
    ):
        with pytest.raises(ServiceError, match="storage:read"):
            await call
    assert world.records.outcomes == ["denied"] * 3


async def test_an_id_that_is_none_is_refused_before_anything_is_asked() -> None:
    with pytest.raises(ServiceError, match="not the id of a bundle"):
        await World().attempt().storage.put("x", "a", b"x")


async def test_a_plugin_that_is_stopped_while_it_reads_leaves_nothing_open(loop: PluginLoop) -> None:
    world = World(kept={"a": b"xy"})
    services = world.attempt()

    async def act() -> None:
        async for _ in services.storage.get(BUNDLE, "a"):
            pass

    acting = asyncio.ensure_future(loop.call(act))
    await asyncio.wait_for(world.reading.wait(), 5)
    acting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await acting
    async with asyncio.timeout(5):
        while not world.closed:
            await asyncio.sleep(0.01)

    assert world.closed == 1


async def test_the_next_attempt_gets_the_link_of_the_first() -> None:
    world = World()
    first = await world.attempt().storage.create_release_link(BUNDLE, expires_in=timedelta(hours=1))

    assert await world.attempt().storage.create_release_link(BUNDLE, expires_in=timedelta(hours=1)) == first
    assert world.keys == ["invocation/storage.create_release_link/1"]

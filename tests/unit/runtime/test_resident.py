"""Hosting a resident trigger: what it is given, when it must end, and what it may emit."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from latchflow.runtime.invoking.resident import (
    EmissionError,
    ResidentDefinition,
    ResidentError,
    ResidentHost,
    checked_emission,
)
from latchflow.runtime.lifecycle.registry import LoadedResident, Registry
from latchflow.sdk import Accepted, Emission, Plugin, ResidentSetup, ResidentTrigger
from tests.support.registries import NAME, registry_of

SCHEMA = {"type": "object", "properties": {"folder": {}, "password": {"type": "string", "writeOnly": True}}}
SECRET = "hunter2-hunter2"


class Listener(ResidentTrigger[Any]):
    """Notes what is done with it."""

    done: list[str]

    def __init__(self, setup: ResidentSetup[Any]) -> None:
        super().__init__(setup)
        self.note("made")

    def note(self, what: str) -> None:
        type(self).done.append(f"{what} {self.config['folder']}")

    async def start(self) -> None:
        self.note("start")
        assert self.secrets["password"] == SECRET
        assert "password" not in self.config
        await self.emit(context={"n": 1}, key="1", cursor=1)

    async def stop(self) -> None:
        self.note("stop")

    async def dispose(self) -> None:
        self.note("dispose")


class Emitted:
    """Takes emissions as the trigger host does."""

    def __init__(self) -> None:
        self.emissions: list[Emission] = []
        self.failure: Exception | None = None
        self.thread_loops: set[asyncio.AbstractEventLoop] = set()

    async def __call__(self, emission: Emission) -> Accepted:
        self.thread_loops.add(asyncio.get_running_loop())
        if self.failure is not None:
            raise self.failure
        self.emissions.append(emission)
        return Accepted(event_id=uuid4(), is_duplicate=False)


@pytest.fixture
async def emitted() -> Emitted:
    return Emitted()


@pytest.fixture
async def host(emitted: Emitted) -> AsyncIterator[ResidentHost]:
    host = ResidentHost(emitted, start_seconds=1.0, stop_seconds=0.3)
    yield host
    await host.stop()


@pytest.fixture
def registries() -> Any:
    made: list[Registry] = []
    yield made
    for registry in made:
        registry.close()


def loaded(registries: list[Registry], base: type[Listener] = Listener, **methods: Any) -> LoadedResident:
    """A class of its own for each test."""
    trigger = type("Trigger", (base,), {"done": [], **methods})
    plugin = Plugin()
    plugin.resident_trigger("listen", display_name="Listen", config_schema=SCHEMA)(trigger)
    registries.append(registry_of(plugin))
    return registries[-1].resident_triggers[NAME, "listen"]


def done(resident: LoadedResident) -> list[str]:
    found: list[str] = resident.capability.trigger.done  # type: ignore[attr-defined]
    return found


def definition(folder: str = "a", cursor: Any = None) -> ResidentDefinition:
    return ResidentDefinition(trigger_id=uuid4(), config={"folder": folder, "password": SECRET}, cursor=cursor)


async def test_an_instance_is_made_started_stopped_and_disposed_of_on_its_plugins_loop(
    host: ResidentHost, emitted: Emitted, registries: list[Registry]
) -> None:
    resident = loaded(registries)

    await host.start(resident, definition())
    await host.stop()
    await host.stop()

    assert done(resident) == ["made a", "start a", "stop a", "dispose a"]
    assert [(one.key, one.cursor, one.context) for one in emitted.emissions] == [("1", 1, {"n": 1})]
    assert emitted.thread_loops == {asyncio.get_running_loop()}


async def test_a_class_without_on_config_change_is_made_anew(host: ResidentHost, registries: list[Registry]) -> None:
    resident = loaded(registries)

    await host.start(resident, definition("a"))
    await host.reconfigure(definition("b"))

    assert done(resident) == ["made a", "start a", "stop a", "dispose a", "made b", "start b"]


async def test_a_class_with_on_config_change_goes_on_with_the_new_setup(
    host: ResidentHost, registries: list[Registry]
) -> None:
    async def on_config_change(self: Listener, setup: ResidentSetup[Any]) -> None:
        self.note(f"change to {setup.config['folder']} from")

    resident = loaded(registries, on_config_change=on_config_change)

    await host.start(resident, definition("a"))
    await host.reconfigure(definition("b"))
    await host.stop()

    assert done(resident) == ["made a", "start a", "change to b from a", "stop b", "dispose b"]


async def test_a_new_version_starts_when_the_old_one_has_stopped_and_frees_that(
    host: ResidentHost, registries: list[Registry]
) -> None:
    old, new = loaded(registries), loaded(registries)
    await host.start(old, definition("old"))

    await host.swap(new, definition("new"))
    async with asyncio.timeout(2):
        await old.plugin.uses.until_idle()

    assert done(old)[-2:] == ["stop old", "dispose old"]
    assert done(new) == ["made new", "start new"]


async def test_a_new_version_goes_on_where_the_old_one_ended(host: ResidentHost, registries: list[Registry]) -> None:
    async def stop(self: Listener) -> None:
        await self.emit(context={}, cursor=6)

    seen = []

    async def start(self: Listener) -> None:
        seen.append(self.setup.cursor)

    old, new = loaded(registries, stop=stop), loaded(registries, start=start)
    await host.start(old, definition(cursor=5))

    await host.swap(new, definition(cursor=5))

    assert seen == [6]


async def test_one_whose_loop_was_replaced_is_started_again_and_watched_while_nobody_calls_it(
    host: ResidentHost, registries: list[Registry]
) -> None:
    release, starts = threading.Event(), []

    async def start(self: Listener) -> None:
        starts.append(self.setup.cursor)
        if len(starts) == 1:
            await self.emit(context={}, cursor=7)
            asyncio.get_running_loop().call_later(0.1, release.wait, 20)

    resident = loaded(registries, start=start)
    resident.plugin.loop._blocked_seconds = 0.3
    await host.start(resident, definition(cursor=1))
    async with asyncio.timeout(10):
        while len(starts) < 2:
            await asyncio.sleep(0.02)
    release.set()
    await host.stop()
    async with asyncio.timeout(2):
        await resident.plugin.uses.until_idle()

    assert starts == [1, 7]
    assert not resident.plugin.loop._residents


async def _sleep(_: Any) -> None:
    await asyncio.sleep(60)


async def _fail(_: Any) -> None:
    raise SystemExit(f"wrong password {SECRET}")


@pytest.mark.parametrize(
    ("start", "reason"), [(_sleep, "took over 1 s"), (_fail, r"raised SystemExit: wrong password \[secret\]$")]
)
async def test_one_that_does_not_start_is_put_away_and_says_why_without_its_secrets(
    host: ResidentHost, registries: list[Registry], start: Any, reason: str
) -> None:
    resident = loaded(registries, start=start)

    with pytest.raises(ResidentError, match=reason):
        await host.start(resident, definition())

    assert done(resident) == ["made a", "stop a", "dispose a"]
    async with asyncio.timeout(2):
        await resident.plugin.uses.until_idle()


async def test_a_stop_that_hangs_or_fails_keeps_nothing_from_ending(
    host: ResidentHost, registries: list[Registry]
) -> None:
    for method in (_sleep, _fail):
        resident = loaded(registries, stop=method)
        await host.start(resident, definition())
        async with asyncio.timeout(2):
            await host.stop()
        assert done(resident)[-1] == "dispose a"


async def test_a_stopped_instance_emits_nothing_any_more(
    host: ResidentHost, emitted: Emitted, registries: list[Registry]
) -> None:
    resident = loaded(registries)
    await host.start(resident, definition())
    instance = host._running.instance  # type: ignore[union-attr]
    await host.stop()

    with pytest.raises(EmissionError, match="was stopped"):
        await resident.plugin.loop.call(_emit_again, instance)
    assert len(emitted.emissions) == 1


async def _emit_again(instance: Listener) -> None:
    await instance.emit(context={})


async def test_what_the_host_refuses_reaches_the_trigger(
    host: ResidentHost, emitted: Emitted, registries: list[Registry]
) -> None:
    emitted.failure = ValueError("fenced")

    with pytest.raises(ResidentError, match="ValueError: fenced"):
        await host.start(loaded(registries), definition())


@pytest.mark.parametrize(
    ("emission", "reason"),
    [
        (Emission(context=[1]), "context is list"),  # type: ignore[arg-type]
        (Emission(context={"a": object()}), "context cannot be written as JSON"),
        (Emission(context={"a": float("nan")}), "context cannot be written as JSON"),
        (Emission(context={"a": json.loads("[" * 102 + "]" * 102)}), "nested deeper than 100 levels"),
        (Emission(context={"a": "x" * 600_000}), "at most 524288 are taken"),
        (Emission(context={}, key=5), "key is no text"),  # type: ignore[arg-type]
        (Emission(context={}, key="a\x00"), "key holds a character"),
        (Emission(context={}, metadata={"a": "\x00"}), "metadata holds a character"),
        (Emission(context={}, metadata=5), "metadata is int"),  # type: ignore[arg-type]
        (Emission(context={}, cursor={1, 2}), "cursor cannot be written as JSON"),
        (Emission(context={}, scheduled_for=datetime(2030, 1, 1)), "scheduled_for is no time with a zone"),  # noqa: DTZ001
        ({"context": {}}, "emit takes an Emission"),
    ],
)
def test_an_emission_that_can_be_no_event_is_refused(emission: Any, reason: str) -> None:
    with pytest.raises(EmissionError, match=reason):
        checked_emission(emission)

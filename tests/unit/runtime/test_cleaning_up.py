"""What an attempt that was cancelled, or whose time is up, may still do; and what it leaves over."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from latchflow.runtime.guard.grant import Asked
from latchflow.runtime.invoking import invoker
from latchflow.runtime.invoking.invoker import Result, invoke
from latchflow.runtime.isolation.executor import MOST_AT_ONCE, MOST_LOOKUPS
from latchflow.runtime.isolation.loops import PluginLoop
from latchflow.runtime.isolation.strain import MOST_OF_ONE, Strain
from latchflow.runtime.lifecycle.registry import LoadedAction, Registry
from latchflow.sdk import ActionCall, Plugin, ServiceError
from latchflow.temporal import policies
from tests.support.registries import NAME, registry_of
from tests.support.services import grant_of
from tests.unit.runtime.invoking import call_of, failed

Invoked = Callable[..., "asyncio.Task[Result]"]


@pytest.fixture
def strain() -> Strain:
    return Strain()


@pytest.fixture
async def invoked(strain: Strain) -> AsyncIterator[Invoked]:
    """Begin an attempt at a function."""
    registries: list[Registry] = []

    def begin(function: Callable[[ActionCall[Any]], Any], *, seconds: float = 5.0) -> "asyncio.Task[Result]":
        plugin = Plugin()
        plugin.action("do", display_name="Do", config_schema={})(function)
        registry = registry_of(plugin)
        registries.append(registry)
        action: LoadedAction = registry.actions[NAME, "do"]
        loop = PluginLoop("acme", strain=strain)
        loaded = replace(action, plugin=replace(action.plugin, loop=loop))
        return asyncio.create_task(invoke(loaded, call_of({}, seconds)))

    yield begin
    for registry in registries:
        registry.close()


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def test_an_attempt_whose_time_is_up_ends_after_it_has_cleaned_up(invoked: Invoked, strain: Strain) -> None:
    cleaned: list[str] = []

    async def slow(call: ActionCall[Any]) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            cleaned.append("up")
        return "too late"

    failure = failed(await invoked(slow, seconds=0.2))

    assert cleaned == ["up"]
    assert (failure.error_type, failure.is_timeout) == ("TimedOut", True)
    assert strain.leftover() == []


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_cancelling_an_attempt_twice_does_not_end_the_wait_for_its_clean_up(
    invoked: Invoked, strain: Strain, kind: str
) -> None:
    began, cleaned = threading.Event(), threading.Event()

    async def forever() -> None:
        began.set()
        await asyncio.sleep(60)

    async def on_loop(call: ActionCall[Any]) -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.5)
            cleaned.set()

    def in_thread(call: ActionCall[Any]) -> None:
        try:
            call.wait(forever())
        finally:
            call.wait(asyncio.sleep(0.5))
            cleaned.set()

    attempt = invoked(on_loop if kind == "coroutine" else in_thread)
    assert await asyncio.to_thread(began.wait, 10)
    attempt.cancel()
    await asyncio.sleep(0.1)
    attempt.cancel()

    with pytest.raises(asyncio.CancelledError):
        await attempt
    assert cleaned.is_set()
    assert strain.leftover() == []


@pytest.mark.parametrize("kind", ["coroutine", "thread"])
async def test_an_attempt_that_ignores_its_end_is_left_over_with_its_name_after_two_seconds(
    invoked: Invoked, strain: Strain, release: threading.Event, kind: str
) -> None:
    async def on_loop(call: ActionCall[Any]) -> None:
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    def in_thread(call: ActionCall[Any]) -> None:
        release.wait(30)

    started = time.monotonic()
    failure = failed(await invoked(on_loop if kind == "coroutine" else in_thread, seconds=0.2))

    assert failure.error_type == "TimedOut"
    assert invoker.CLEAN_UP_SECONDS <= time.monotonic() - started < invoker.CLEAN_UP_SECONDS + 2
    (left,) = strain.leftover()
    assert (left.plugin, left.capability, left.is_thread) == ("acme", "do", kind == "thread")
    report = strain.report()
    assert (report["leftoverThreads"], report["leftoverTasks"]) == ((1, 0) if kind == "thread" else (0, 1))
    release.set()
    async with asyncio.timeout(10):
        while strain.leftover():
            await asyncio.sleep(0.01)


async def test_what_cleans_up_for_too_long_is_cancelled_once_more(invoked: Invoked, strain: Strain) -> None:
    cancelled: list[str] = []

    async def thorough(call: ActionCall[Any]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.append("while it cleaned up")
                raise

    failed(await invoked(thorough, seconds=0.2))

    async with asyncio.timeout(10):
        while strain.leftover() or not cancelled:
            await asyncio.sleep(0.01)


async def test_calls_of_to_thread_that_hang_are_left_over_and_keep_no_place(
    invoked: Invoked, strain: Strain, release: threading.Event
) -> None:
    async def hang(call: ActionCall[Any]) -> None:
        await asyncio.gather(*(asyncio.to_thread(release.wait, 30) for _ in range(MOST_AT_ONCE)))

    async def again(call: ActionCall[Any]) -> int:
        hanging = asyncio.create_task(hang(call))
        await asyncio.sleep(0.2)
        hanging.cancel()
        await asyncio.wait([hanging])
        return await asyncio.to_thread(sum, [40, 2])

    result = await invoked(again, seconds=5.0)

    assert isinstance(result, invoker.Success), result
    assert result.output == 42
    left = strain.leftover()
    assert len(left) == MOST_AT_ONCE
    assert {(thread.plugin, thread.capability, thread.is_thread) for thread in left} == {("acme", "do", True)}
    assert strain.is_too_much_for(10) is False  # not yet: they were asked to end a moment ago
    release.set()
    async with asyncio.timeout(10):
        while strain.leftover():
            await asyncio.sleep(0.01)


async def test_calls_of_to_thread_beyond_the_bound_wait_for_their_turn(invoked: Invoked, strain: Strain) -> None:
    at_once: list[int] = []
    running = 0
    lock = threading.Lock()

    def work(number: int) -> int:
        nonlocal running
        with lock:
            running += 1
            at_once.append(running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return number

    async def many(call: ActionCall[Any]) -> int:
        return sum(await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(200))))

    result = await invoked(many)

    assert isinstance(result, invoker.Success)
    assert result.output == sum(range(200))
    assert 1 < max(at_once) <= MOST_AT_ONCE
    assert strain.leftover() == []


async def test_of_calls_of_to_thread_that_are_cancelled_together_none_begins_afterwards(
    invoked: Invoked, strain: Strain, release: threading.Event
) -> None:
    begun: list[int] = []

    def work(number: int) -> None:
        begun.append(number)
        release.wait(30)

    async def many(call: ActionCall[Any]) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(MOST_AT_ONCE):
                group.create_task(asyncio.to_thread(work, number))
            await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(100)))

    async def again(call: ActionCall[Any]) -> int:
        hanging = asyncio.create_task(many(call))
        await asyncio.sleep(0.3)
        hanging.cancel()
        await asyncio.wait([hanging])
        return await asyncio.to_thread(len, begun)

    result = await invoked(again)

    assert isinstance(result, invoker.Success), result
    assert result.output == MOST_AT_ONCE
    assert len(begun) == len(strain.leftover()) == MOST_AT_ONCE


async def test_a_thread_that_cannot_be_started_fails_its_call_and_keeps_no_place(
    strain: Strain, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = PluginLoop("acme", strain=strain)
    start = threading.Thread.start
    has_threads = False

    def start_if_it_can(thread: threading.Thread) -> None:
        if "to_thread" in thread.name and not has_threads:
            raise RuntimeError("can't start new thread")
        start(thread)

    async def act() -> tuple[int, int]:
        nonlocal has_threads
        outcomes = [await asyncio.gather(asyncio.to_thread(sum, [1]), return_exceptions=True) for _ in range(40)]
        has_threads = True
        async with asyncio.timeout(5):
            return sum(isinstance(error, RuntimeError) for (error,) in outcomes), await asyncio.to_thread(sum, [40, 2])

    monkeypatch.setattr(threading.Thread, "start", start_if_it_can)

    assert await loop.call(act) == (40, 42)
    assert strain.leftover() == []
    loop.close()


async def test_what_one_attempt_leaves_over_counts_as_one_and_another_beside_it_as_another(
    invoked: Invoked, strain: Strain, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latchflow.runtime.isolation.strain._SETTLING_SECONDS", 0.0)

    async def hang(call: ActionCall[Any]) -> None:
        waits = [asyncio.to_thread(release.wait, 30) for _ in range(3)]
        others = [asyncio.get_running_loop().run_in_executor(None, release.wait, 30) for _ in range(3)]
        await asyncio.gather(*waits, *others)

    failed(await invoked(hang, seconds=0.2))
    of_one = strain.is_too_much_for(2), strain.is_too_much_for(3)
    failed(await invoked(hang, seconds=0.2))
    of_two = strain.is_too_much_for(4), strain.is_too_much_for(5)

    assert len(strain.leftover()) == 12
    assert (of_one, of_two) == ((True, False), (True, False))


def test_an_attempt_that_leaves_threads_over_without_end_counts_more_than_once(
    strain: Strain, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latchflow.runtime.isolation.strain._SETTLING_SECONDS", 0.0)
    thread = threading.Thread(target=release.wait)
    thread.start()
    attempt = object()
    for _ in range(MOST_OF_ONE + 1):
        strain.leave(thread, plugin="acme", capability="do", of=attempt)

    assert strain.is_too_much_for(4)
    assert not strain.is_too_much_for(5)
    release.set()


async def test_looking_names_up_while_no_server_answers_is_bounded_and_no_strain_of_the_plugin(
    strain: Strain, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = PluginLoop("acme", strain=strain)
    asked: list[str] = []

    def no_server_answers(host: str, *_: Any, **__: Any) -> list[Any]:
        asked.append(host)
        release.wait(30)
        return []

    async def look_up(hosts: Sequence[str]) -> int:
        own = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await asyncio.gather(*(own.getaddrinfo(host, 443) for host in hosts))
        return await asyncio.to_thread(sum, [40, 2])

    monkeypatch.setattr(socket, "getaddrinfo", no_server_answers)
    early = [f"early-{number}.example" for number in range(MOST_LOOKUPS + 10)]

    assert await loop.call(look_up, early) == 42
    assert await loop.call(look_up, ["late.example"]) == 42

    assert sorted(asked) == sorted(early[:MOST_LOOKUPS])
    assert strain.leftover() == []
    release.set()
    async with asyncio.timeout(10):
        while await loop.call(look_up, ["answered.example"]) and "answered.example" not in asked:
            await asyncio.sleep(0.01)
    assert "late.example" not in asked
    loop.close()


async def test_services_work_while_an_attempt_cleans_up_and_not_after_its_end(invoked: Invoked) -> None:
    grant = replace(grant_of(seconds=0.2, granted=["http:any"], declared=["http:any"]), clean_up=timedelta(seconds=2))
    lefts: list[float] = []

    async def ask() -> None:
        lefts.append((grant.cutoff - datetime.now(UTC)).total_seconds())

    async def releasing(call: ActionCall[Any]) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await grant.watch(Asked(service="http", scopes=["http:any"], actor_id=None, detail={}), ask)

    failed(await invoked(releasing, seconds=0.2))
    grant.end()

    (left,) = lefts
    assert 1 < left < 2
    with pytest.raises(ServiceError, match="The attempt is over"):
        grant.require_open()


async def test_what_is_left_over_of_no_action_bears_the_name_of_its_function(
    strain: Strain, release: threading.Event
) -> None:
    loop = PluginLoop("acme", strain=strain)

    def send() -> None:
        release.wait(30)

    call = asyncio.create_task(loop.call(send))
    await asyncio.sleep(0.1)
    call.cancel()
    await asyncio.wait([call])
    loop.close()

    (left,) = strain.leftover()
    assert left.capability is not None
    assert left.capability.endswith("send")


def test_an_attempt_with_its_clean_up_ends_well_within_the_time_that_temporal_gives_it() -> None:
    longest = 115 + invoker.CLEAN_UP_SECONDS

    assert longest + 2 < policies.START_TO_CLOSE.total_seconds() < policies.DRAIN_GRACE.total_seconds()
    assert policies.SHUTDOWN_GRACE.total_seconds() + invoker.CLEAN_UP_SECONDS < 10

"""Plugins that block their loop, and threads that outlive what they were for."""

import asyncio
import io
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from latchflow.runtime.isolation.loops import PluginBlockedError, PluginClosedError, PluginLoop
from latchflow.runtime.isolation.strain import Strain

_LIMIT = 0.5


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)


@pytest.fixture
def strain() -> Strain:
    return Strain()


@pytest.fixture
def loop(strain: Strain) -> Iterator[PluginLoop]:
    loop = PluginLoop("acme", blocked_seconds=_LIMIT, strain=strain)
    yield loop
    loop.close()


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


async def current() -> threading.Thread:
    return threading.current_thread()


async def test_a_blocked_loop_fails_its_calls_with_the_place_and_is_replaced(
    loop: PluginLoop, strain: Strain, release: threading.Event
) -> None:
    async def block() -> None:
        release.wait(30)  # the line that blocks

    async def innocent() -> None:
        await asyncio.sleep(30)

    first = await loop.call(current)
    bystander = asyncio.create_task(loop.call(innocent))
    line = block.__code__.co_firstlineno + 1

    with pytest.raises(PluginBlockedError, match=rf"over 0\.5 s at .*test_blocked_loops\.py:{line}, in block"):
        await loop.call(block)
    with pytest.raises(PluginBlockedError):
        await bystander
    second = await loop.call(current)
    assert second is not first
    report = strain.report()
    assert report["replacedLoops"] == 1
    assert report["replaced"][0]["plugin"] == "acme"
    assert f"test_blocked_loops.py:{line}" in report["replaced"][0]["lastPlace"]
    assert report["leftoverThreads"] == 1


async def test_a_loop_that_comes_back_after_it_was_replaced_ends_and_does_nothing_more(
    loop: PluginLoop, strain: Strain, release: threading.Event
) -> None:
    went_on: list[str] = []

    async def block() -> None:
        release.wait(30)
        await asyncio.sleep(0)
        went_on.append("after the next await")

    first = await loop.call(current)
    with pytest.raises(PluginBlockedError):
        await loop.call(block)
    release.set()
    await asyncio.to_thread(first.join, 10)

    assert not first.is_alive()
    assert went_on == []
    assert strain.leftover() == []


async def test_a_blocked_plugin_harms_no_other_in_the_process(release: threading.Event) -> None:
    strain = Strain()
    blocked, other = (PluginLoop(name, blocked_seconds=_LIMIT, strain=strain) for name in ("blocked", "other"))

    async def block() -> None:
        release.wait(30)

    call = asyncio.create_task(blocked.call(block))
    threads = {await other.call(current) for _ in range(100)}

    with pytest.raises(PluginBlockedError):
        await call
    assert len(threads) == 1
    assert {await other.call(current)} == threads
    for loop in (blocked, other):
        loop.close()


async def test_a_loop_that_is_busy_but_turns_is_left_alone(loop: PluginLoop, strain: Strain) -> None:
    async def busy() -> threading.Thread:
        for _ in range(20):
            time.sleep(_LIMIT / 10)
            await asyncio.sleep(0)
        return threading.current_thread()

    assert await loop.call(busy) is await loop.call(current)
    assert strain.report()["replacedLoops"] == 0


async def test_what_a_thread_waits_for_on_a_blocked_loop_fails_too(
    loop: PluginLoop, strain: Strain, release: threading.Event
) -> None:
    async def block() -> None:
        release.wait(30)

    async def answer() -> int:
        return 42

    blocked = asyncio.create_task(loop.call(block))
    await asyncio.sleep(0)
    with pytest.raises(PluginBlockedError):
        await asyncio.wrap_future(loop.submit(answer))
    with pytest.raises(PluginBlockedError):
        await blocked


async def test_python_code_in_a_thread_ends_when_its_attempt_is_cancelled(loop: PluginLoop, strain: Strain) -> None:
    entered = threading.Event()
    ended: list[str] = []

    def spin() -> None:
        entered.set()
        try:
            while True:
                sum(range(100))
        except asyncio.CancelledError:
            ended.append("cleaned up")
            raise

    call = asyncio.create_task(loop.call(spin, capability="spin"))
    await asyncio.to_thread(entered.wait, 10)
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: not strain.leftover())
    assert ended == ["cleaned up"]


async def test_a_call_into_c_is_left_over_while_it_lasts_and_takes_nobodys_place(
    loop: PluginLoop, strain: Strain, release: threading.Event
) -> None:
    entered = threading.Semaphore(0)

    def wait() -> None:
        entered.release()
        release.wait(30)

    calls = [asyncio.create_task(loop.call(wait, capability="wait")) for _ in range(100)]
    for _ in calls:
        await asyncio.to_thread(entered.acquire)
    for call in calls:
        call.cancel()
    await asyncio.gather(*calls, return_exceptions=True)

    report = strain.report()
    assert report["leftoverThreads"] == 100
    assert len(report["leftover"]) == 20
    assert {(left["plugin"], left["capability"]) for left in report["leftover"]} == {("acme", "wait")}
    assert await loop.call(lambda: 42) == 42
    release.set()
    await until(lambda: not strain.leftover())
    assert strain.report()["leftoverThreads"] == 0


async def test_threads_left_over_for_half_of_the_slots_are_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latchflow.runtime.isolation.strain._SETTLING_SECONDS", 0.0)
    strain, release = Strain(), threading.Event()
    verdicts = []
    for _ in range(5):
        thread = threading.Thread(target=release.wait)
        thread.start()
        strain.leave(thread, plugin="acme", capability="wait")
        verdicts.append(strain.is_too_much_for(10))
    release.set()

    assert verdicts == [False, False, False, False, True]
    await until(lambda: not strain.is_too_much_for(10))
    assert not strain.is_too_much_for(1)


async def test_a_thread_that_was_asked_to_end_a_moment_ago_does_not_count_yet() -> None:
    strain, release = Strain(), threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    strain.leave(thread, plugin="acme", capability="wait")

    assert not strain.is_too_much_for(1)
    assert strain.report()["leftoverThreads"] == 1
    release.set()
    thread.join()


async def test_closing_a_loop_while_it_is_blocked_fails_its_calls_and_counts_its_thread(
    strain: Strain, release: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latchflow.runtime.isolation.loops._CLOSE_SECONDS", 0.1)
    loop = PluginLoop("acme", strain=strain)
    entered = threading.Event()

    async def block() -> None:
        entered.set()
        release.wait(30)

    call = asyncio.create_task(loop.call(block))
    await asyncio.to_thread(entered.wait, 10)
    loop.close()

    with pytest.raises(PluginClosedError):
        await call
    (left,) = strain.leftover()
    release.set()
    assert isinstance(left.living, threading.Thread)
    await asyncio.to_thread(left.living.join, 10)
    assert strain.leftover() == []


async def test_a_thread_is_not_ended_inside_a_library_whose_locks_the_host_needs(
    loop: PluginLoop, release: threading.Event
) -> None:
    noisy = logging.getLogger("plugin of the test")
    noisy.propagate = False
    handler = logging.StreamHandler(io.StringIO())
    noisy.addHandler(handler)

    def log_until_released() -> None:
        while not release.is_set():
            noisy.warning("going on")

    for _ in range(10):
        # Two at a time, which wait for each other in the handler again and again.
        attempts = [asyncio.create_task(loop.call(log_until_released)) for _ in range(2)]
        await asyncio.sleep(0.02)
        for attempt in attempts:
            attempt.cancel()
        await asyncio.wait(attempts)
        release.set()
        await until(lambda: not any(thread.name.startswith("plugin acme_") for thread in threading.enumerate()))
        release.clear()

        assert handler.lock is not None
        assert handler.lock.acquire(timeout=2)
        handler.lock.release()
    noisy.removeHandler(handler)

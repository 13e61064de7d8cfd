import asyncio
import contextvars
import threading
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

from latchflow.runtime.isolation.loops import PluginClosedError, PluginLoop, Waiter

_VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("variable")


@pytest.fixture
def loop() -> Iterator[PluginLoop]:
    loop = PluginLoop("acme")
    yield loop
    loop.close()


async def test_a_coroutine_runs_on_the_plugins_own_loop(loop: PluginLoop) -> None:
    async def which() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    first, second = await loop.call(which), await loop.call(which)

    assert first is second is not asyncio.get_running_loop()


async def test_a_plain_function_that_answers_with_an_awaitable_is_awaited_there(loop: PluginLoop) -> None:
    async def which() -> str:
        return threading.current_thread().name

    assert await loop.call(lambda: which())  # noqa: PLW0108 - it must be no coroutine function == "plugin acme"


async def test_a_call_sees_the_context_of_its_caller(loop: PluginLoop) -> None:
    async def read() -> str:
        return _VARIABLE.get("nothing")

    _VARIABLE.set("mine")

    assert await loop.call(read) == "mine"
    assert await loop.call(lambda: _VARIABLE.get("nothing")) == "mine"


async def test_cancelling_the_caller_cancels_the_coroutine(loop: PluginLoop) -> None:
    host = asyncio.get_running_loop()
    entered, cancelled = asyncio.Event(), threading.Event()

    async def work() -> None:
        host.call_soon_threadsafe(entered.set)
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    call = asyncio.create_task(loop.call(work))
    await entered.wait()
    call.cancel()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert await asyncio.to_thread(cancelled.wait, 2)


async def test_a_call_that_blocks_its_thread_leaves_the_others_free(loop: PluginLoop) -> None:
    release = threading.Event()
    blocked = asyncio.create_task(loop.call(release.wait, 10))

    async def answer() -> int:
        return 42

    assert await loop.call(answer) == 42
    assert await loop.call(lambda: 43) == 43
    release.set()
    assert await blocked is True


async def test_a_task_the_plugin_leaves_behind_may_exit_without_ending_the_loop(loop: PluginLoop) -> None:
    async def leave() -> None:
        raise SystemExit(1)

    async def start() -> asyncio.Task[None]:
        return asyncio.create_task(leave())

    async def look(task: asyncio.Task[None]) -> str:
        return type(task.exception()).__name__

    task = await loop.call(start)

    assert await loop.call(look, task) == "SystemExit"


async def test_closing_cancels_what_still_runs() -> None:
    loop = PluginLoop("acme")
    host = asyncio.get_running_loop()
    entered, cancelled = asyncio.Event(), threading.Event()

    async def work() -> None:
        host.call_soon_threadsafe(entered.set)
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    call = asyncio.create_task(loop.call(work))
    await entered.wait()
    loop.close()

    assert cancelled.is_set()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_waiter_on_the_loop_itself_refuses_instead_of_waiting_for_ever(loop: PluginLoop) -> None:
    wait = Waiter(loop)

    async def work() -> None:
        wait(asyncio.sleep(0))

    with pytest.raises(RuntimeError, match="use `await`"):
        await loop.call(work)


async def test_a_thread_that_waits_ends_when_its_attempt_is_over(loop: PluginLoop) -> None:
    wait = Waiter(loop)
    host = asyncio.get_running_loop()
    entered = asyncio.Event()
    seen: list[str] = []

    async def never() -> None:
        host.call_soon_threadsafe(entered.set)
        await asyncio.sleep(60)

    def work() -> None:
        try:
            wait(never())
        except asyncio.CancelledError as error:
            seen.append(str(error))
            wait(asyncio.sleep(0))

    call = asyncio.create_task(loop.call(work))
    await entered.wait()
    wait.end()

    with pytest.raises(asyncio.CancelledError):
        await call
    assert seen == ["The attempt is over."]


async def test_a_closed_loop_takes_no_call_and_says_so() -> None:
    loop = PluginLoop("acme")
    loop.close()

    for function in (asyncio.sleep, int):
        with pytest.raises(PluginClosedError, match="acme was put away"):
            await loop.call(function, 0)


async def test_what_an_attempt_sets_in_its_context_is_gone_in_the_next(loop: PluginLoop) -> None:
    local = threading.local()

    async def on_loop() -> str:
        found = _VARIABLE.get("nothing")
        _VARIABLE.set("left behind")
        await asyncio.sleep(0)
        return found

    def in_thread() -> tuple[str, str]:
        found = _VARIABLE.get("nothing"), getattr(local, "value", "nothing")
        _VARIABLE.set("left behind")
        local.value = "left behind"
        return found

    calls = [await loop.call(function) for function in (on_loop, on_loop, in_thread, in_thread, on_loop)]

    assert calls == ["nothing", "nothing", ("nothing", "nothing"), ("nothing", "nothing"), "nothing"]
    assert _VARIABLE.get("nothing") == "nothing"


async def test_a_plugin_that_stops_its_own_loop_goes_on_working() -> None:
    loop = PluginLoop("acme")

    async def stop() -> str:
        asyncio.get_running_loop().stop()
        return "stopped"

    async def other() -> str:
        await asyncio.sleep(0.05)
        return "went on"

    beside = asyncio.create_task(loop.call(other))
    async with asyncio.timeout(10):
        answers = [await loop.call(stop), await beside, await loop.call(other)]
    loop.close()

    assert answers == ["stopped", "went on", "went on"]


async def test_a_task_that_exits_when_it_is_cancelled_leaves_nobody_waiting() -> None:
    loop = PluginLoop("acme")
    kept: list[asyncio.Task[None]] = []

    async def exit_at_the_end() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise SystemExit(3) from None

    async def start() -> None:
        kept.append(asyncio.create_task(exit_at_the_end()))

    async def slow() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)

    await loop.call(start)
    waiting = [asyncio.create_task(loop.call(slow)) for _ in range(3)]
    await asyncio.sleep(0.1)
    await asyncio.to_thread(loop.close)

    done, _ = await asyncio.wait(waiting, timeout=5)
    assert len(done) == 3
    assert all(task.cancelled() or task.exception() for task in done)


async def test_a_wait_that_has_its_result_already_cannot_be_ended_so_its_thread_is_told(loop: PluginLoop) -> None:
    wait = Waiter(loop)
    done: Future[None] = Future()
    done.set_result(None)
    waits: Future[None] = Future()

    wait._waiting = {done}  # as its thread has not come to look at it
    of_done_alone = wait.interrupt()
    wait._waiting = {done, waits}
    of_both = wait.interrupt()

    assert (of_done_alone, of_both) == (False, True)
    assert waits.cancelled()

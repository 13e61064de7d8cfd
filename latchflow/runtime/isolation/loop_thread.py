"""One event loop in a thread of its own, and the calls that wait for it."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from latchflow.runtime.isolation.threads import UNCARRIED


class LoopCall:
    """One piece of work on a loop.

    Attributes:
        outcome: What it returned or raised. Cancelling it cancels the work; it can be settled from outside, too, when
            the loop does not come back.
        end: Done when the work is, which may be long after `outcome` was cancelled.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, work: Callable[[], Awaitable[Any]]) -> None:
        self.outcome: Future[Any] = Future()
        self.end: Future[None] = Future()
        self._loop = loop
        self._work = work
        self._task: asyncio.Task[Any] | None = None
        self._was_asked = False

    def start(self) -> None:
        """Begin; runs on the loop."""
        if self.outcome.done():
            self.end.set_result(None)
            return
        self._task = self._loop.create_task(_awaited(self._work))
        self._task.add_done_callback(self._take_outcome)
        self.outcome.add_done_callback(self._on_outcome)

    def is_alive(self) -> bool:
        """Whether the work goes on although it was cancelled; until its loop turns, that is the loop's fault."""
        return self._was_asked and not self.end.done() and not self._loop.is_closed()

    def cancel(self) -> None:
        """Ask the work to end; again, when it was asked before."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._cancel)

    def _cancel(self) -> None:
        if self._task is not None and not self._task.done():
            self._was_asked = True
            self._task.cancel()

    def _take_outcome(self, task: asyncio.Task[Any]) -> None:
        self.end.set_result(None)
        with suppress(InvalidStateError):  # it was settled from outside
            if task.cancelled():
                self.outcome.cancel()
            elif (error := task.exception()) is not None:
                self.outcome.set_exception(error)
            else:
                self.outcome.set_result(task.result())

    def _on_outcome(self, _: Future[Any]) -> None:
        if self._task is not None and not self._task.done():
            self.cancel()


class LoopThread:
    """The thread. It runs until it is told to stop, and then cancels what is left on its loop.

    Args:
        name: The thread's.
        executor: What carries out ``asyncio.to_thread`` there.
    """

    def __init__(self, name: str, executor: ThreadPoolExecutor) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_default_executor(executor)
        self._may_stop = threading.Event()
        self.thread = threading.Thread(target=_run, args=(self.loop, self._may_stop), name=name, daemon=True)
        self._lock = threading.Lock()
        self._calls: set[Future[Any]] = set()
        self.thread.start()

    @property
    def is_awaited(self) -> bool:
        """Whether anybody waits for a call."""
        return bool(self._calls)

    def submit(self, work: Callable[[], Awaitable[Any]]) -> LoopCall:
        """Run something on the loop, in a copy of the caller's context.

        Raises:
            RuntimeError: The loop is closed.
        """
        call = LoopCall(self.loop, work)
        with self._lock:
            self._calls.add(call.outcome)
        call.outcome.add_done_callback(self._forget)
        try:
            self.loop.call_soon_threadsafe(call.start)
        except RuntimeError:
            call.outcome.cancel()
            raise
        return call

    def fail(self, error: Exception) -> None:
        """Whoever waits for a call gets this error."""
        with self._lock:
            waiting = list(self._calls)
        for outcome in waiting:
            with suppress(InvalidStateError):
                outcome.set_exception(error)

    def stop(self) -> None:
        """Let the loop end, at once or when what blocks it comes back."""
        self._may_stop.set()
        with suppress(RuntimeError):
            self.loop.call_soon_threadsafe(self.loop.stop)

    def _forget(self, outcome: Future[Any]) -> None:
        with self._lock:
            self._calls.discard(outcome)


async def _awaited(work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await work()
    except UNCARRIED as error:
        raise RuntimeError(f"the function raised {type(error).__name__}") from error


def _run(loop: asyncio.AbstractEventLoop, may_stop: threading.Event) -> None:
    asyncio.set_event_loop(loop)
    try:
        while not may_stop.is_set():  # code of the plugin may stop the loop too; its other calls need it
            _carry_on(loop.run_forever)
    finally:
        while tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            _carry_on(lambda: loop.run_until_complete(asyncio.wait(tasks)))
        _carry_on(lambda: loop.run_until_complete(loop.shutdown_asyncgens()))
        loop.close()


def _carry_on(run: Callable[[], object]) -> None:
    # asyncio lets these two of a task end the loop; RuntimeError is the loop stopped in the middle.
    with suppress(SystemExit, KeyboardInterrupt, RuntimeError):
        run()

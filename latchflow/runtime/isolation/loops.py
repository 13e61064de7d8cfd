"""Where plugin code runs: a loop per plugin, a thread per plain function, never the loop that polls Temporal."""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import structlog

from latchflow.runtime.isolation.culprits import place_of
from latchflow.runtime.isolation.executor import LoopExecutor, Purpose, carrying_out
from latchflow.runtime.isolation.loop_thread import LoopCall, LoopThread
from latchflow.runtime.isolation.strain import STRAIN, Strain
from latchflow.runtime.isolation.threads import PluginThread
from latchflow.runtime.isolation.watching import WATCHER, Pulse

T = TypeVar("T")

BLOCKED_SECONDS = 10.0
_CLOSE_SECONDS = 2.0

log = structlog.get_logger(__name__)


class PluginBlockedError(Exception):
    """The plugin kept its loop from turning; the loop was replaced, and all its calls ended with this."""


class PluginClosedError(Exception):
    """This version of the plugin was put away; the call has to be made again, of the version that came after it."""


class PluginLoop:
    """The loop of one loaded plugin. Its thread starts with the first call.

    Args:
        name: The plugin's.
        blocked_seconds: How long its loop may not turn before it is replaced.
        strain: Where what is left over and replaced loops are counted.
    """

    def __init__(self, name: str, *, blocked_seconds: float = BLOCKED_SECONDS, strain: Strain = STRAIN) -> None:
        self._name = name
        self._blocked_seconds = blocked_seconds
        self._strain = strain
        self._lock = threading.Lock()
        self._current: tuple[LoopThread, Pulse] | None = None
        self._is_closed = False
        self._threads_started = 0
        self._residents: set[Callable[[], None]] = set()

    async def call(
        self,
        function: Callable[..., Any],
        *arguments: Any,
        capability: str | None = None,
        grace_seconds: float = 0.0,
        wait: "Waiter | None" = None,
    ) -> Any:
        """Run a plugin's function: a coroutine function on the loop, a plain one in a thread of its own.

        Cancelling the caller cancels the coroutine; in a thread ``asyncio.CancelledError`` is raised. The caller comes
        back when the function has ended, `grace_seconds` later at most: what goes on then, as a call into C does or
        code that swallows its cancellation, goes on alone and is counted as left over.

        Args:
            function: What to run.
            *arguments: Its arguments.
            capability: Named beside what is left over; by default the function.
            grace_seconds: What a cancelled function has to clean up.
            wait: What the function waits with when it runs in a thread.

        Raises:
            PluginBlockedError: The loop did not turn for too long.
            PluginClosedError: `close` was called.
        """
        name = getattr(function, "__qualname__", type(function).__name__)
        purpose = Purpose(capability=capability or name)
        if inspect.iscoroutinefunction(function):
            return await self._on_loop(partial(function, *arguments), purpose, grace_seconds)
        answer = await self._in_thread(partial(function, *arguments), purpose, grace_seconds, wait)
        if inspect.isawaitable(answer):
            awaitable: Awaitable[Any] = answer
            try:
                return await self._on_loop(lambda: awaitable, purpose, grace_seconds)
            finally:
                _discard(awaitable)
        return answer

    def submit(self, work: Callable[[], Awaitable[T]]) -> "Future[T]":
        """Run something on the loop. Raises as `call`."""
        return self._submit(work).outcome

    def _submit(self, work: Callable[[], Awaitable[Any]]) -> LoopCall:
        with self._lock:
            return self._running().submit(work)

    def close(self) -> None:
        """Stop the loop; what still runs on it is cancelled, and no call is taken any more."""
        with self._lock:
            self._is_closed = True
            current, self._current = self._current, None
        if current is not None:
            loop_thread, pulse = current
            WATCHER.let_go(pulse)
            loop_thread.stop()
            loop_thread.thread.join(_CLOSE_SECONDS)
            loop_thread.fail(PluginClosedError(f"{self._name} was put away while this was under way."))
            if loop_thread.thread.is_alive():
                self._strain.leave(loop_thread.thread, plugin=self._name, capability=None)

    def hold(self, on_replaced: Callable[[], None]) -> None:
        """Keep the loop watched while nobody awaits a call, for what lives on it.

        Args:
            on_replaced: Called, from another thread, when the loop was replaced: what lived on it is gone.
        """
        self._residents.add(on_replaced)

    def let_go(self, on_replaced: Callable[[], None]) -> None:
        """The end of `hold`. Safe to repeat."""
        self._residents.discard(on_replaced)

    def is_own_thread(self) -> bool:
        """Whether the caller runs on the loop."""
        current = self._current
        return current is not None and current[0].thread is threading.current_thread()

    async def _on_loop(self, work: Callable[[], Awaitable[Any]], purpose: Purpose, grace_seconds: float) -> Any:
        with carrying_out(purpose):
            call = self._submit(work)
        try:
            return await asyncio.wrap_future(call.outcome)
        except asyncio.CancelledError:
            if not await _is_done_within(call.end, grace_seconds):
                self._strain.leave(call, plugin=self._name, capability=purpose.capability, of=purpose)
                if grace_seconds:
                    call.cancel()  # with what it waits for to clean up
            raise

    async def _in_thread(
        self, function: Callable[[], Any], purpose: Purpose, grace_seconds: float, wait: "Waiter | None"
    ) -> Any:
        with self._lock:
            self._check_open()
            self._threads_started += 1
            name = f"plugin {self._name}_{self._threads_started}"
        with carrying_out(purpose):
            thread = PluginThread(name, function)
        try:
            return await asyncio.wrap_future(thread.outcome)
        except asyncio.CancelledError:
            # Told once: another exception would come into the middle of its cleaning up.
            if wait is None or not wait.interrupt():
                thread.interrupt()
            if not await _is_done_within(thread.end, grace_seconds) and thread.thread.is_alive():
                self._strain.leave(thread.thread, plugin=self._name, capability=purpose.capability, of=purpose)
            raise

    def _running(self) -> LoopThread:
        self._check_open()
        if self._current is None:
            executor = LoopExecutor(self._name, self._strain)
            loop_thread = LoopThread(f"plugin {self._name}", executor)
            pulse = Pulse(
                loop_thread.loop,
                self._blocked_seconds,
                partial(self._replace, loop_thread),
                is_needed=lambda: loop_thread.is_awaited or bool(self._residents),
            )
            self._current = loop_thread, pulse
            WATCHER.watch(pulse)
        return self._current[0]

    def _check_open(self) -> None:
        if self._is_closed:
            raise PluginClosedError(
                f"This version of {self._name} was put away. Another attempt gets the one in its place."
            )

    def _replace(self, blocked: LoopThread) -> None:
        """Give a loop up that does not turn; the next call starts a fresh one."""
        place = place_of(blocked.thread.ident)
        with self._lock:
            if self._current is not None and self._current[0] is blocked:
                self._current = None
        self._strain.replace(self._name, place)
        self._strain.leave(blocked.thread, plugin=self._name, capability=None)
        blocked.fail(
            PluginBlockedError(
                f"The plugin blocked its event loop for over {self._blocked_seconds:g} s at {place}. Make the action a "
                "plain `def`, which gets a thread, or await `asyncio.to_thread(…)` there."
            )
        )
        blocked.stop()
        log.error("a plugin blocked its loop, which was replaced", plugin=self._name, place=place)
        for on_replaced in list(self._residents):
            on_replaced()


class Waiter:
    """`ActionCall.wait` of one attempt: lets its thread wait for what runs on the loop, until the attempt is over."""

    def __init__(self, loop: PluginLoop) -> None:
        self._loop = loop
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] = set()
        self._is_over = False

    def __call__(self, awaitable: Awaitable[T], /) -> T:
        """The awaitable's result.

        Raises:
            RuntimeError: Called on the loop itself, which would wait for itself.
            asyncio.CancelledError: The attempt is over.
        """
        if self._loop.is_own_thread():
            _discard(awaitable)
            raise RuntimeError("call.wait is for plain functions, which run in a thread. In a coroutine, use `await`.")
        try:
            return self._waited(awaitable)
        except CancelledError:
            raise asyncio.CancelledError("The attempt is over.") from None
        finally:
            _discard(awaitable)

    def _waited(self, awaitable: Awaitable[T]) -> T:
        with self._lock:
            if self._is_over:
                raise CancelledError
            outcome = self._loop.submit(lambda: awaitable)
            self._waiting.add(outcome)
        try:
            return outcome.result()
        finally:
            outcome.cancel()  # an exception raised into the thread may come first
            with self._lock:
                self._waiting.discard(outcome)

    def interrupt(self) -> bool:
        """End what waits now; what cleans up after that may wait again.

        Returns:
            Whether anything was ended. What it waited for may have come a moment ago: then its thread goes on.
        """
        with self._lock:
            waiting = list(self._waiting)
        cancelled = [outcome.cancel() for outcome in waiting]
        return any(cancelled)

    def end(self) -> None:
        """The attempt is over: nothing waits any more."""
        with self._lock:
            self._is_over = True
        self.interrupt()


def is_being_cancelled() -> bool:
    """Whether the running task was asked to stop; else a ``CancelledError`` is the plugin's own doing."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _is_done_within(end: "Future[None]", seconds: float) -> bool:
    """Wait for it, also while the running task is cancelled again: the wait has an end of its own."""
    clock = asyncio.get_running_loop().time
    until = clock() + seconds
    waited = asyncio.wrap_future(end)
    while not end.done() and (left := until - clock()) > 0:
        with suppress(asyncio.CancelledError):
            await asyncio.wait([waited], timeout=left)
    return end.done()


def _discard(awaitable: Awaitable[Any]) -> None:
    """Put away what nobody came to await, or Python would complain; what was begun is left alone."""
    if inspect.iscoroutine(awaitable) and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED:
        awaitable.close()

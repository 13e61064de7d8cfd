"""What carries out ``asyncio.to_thread`` on the loop of a plugin."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

from latchflow.runtime.isolation.strain import Strain

MOST_AT_ONCE = 32

_SETTLING_SECONDS = 0.05
"""What is cancelled together, as by `asyncio.gather` or a task group, is cancelled in turns of the loop within this."""

_CAPABILITY: ContextVar[str | None] = ContextVar("capability", default=None)


@contextmanager
def carrying_out(capability: str | None) -> Iterator[None]:
    """What begins in this block, and what that begins in its turn, is for this capability."""
    token = _CAPABILITY.set(capability)
    try:
        yield
    finally:
        _CAPABILITY.reset(token)


class LoopExecutor(ThreadPoolExecutor):
    """A thread for each call; `MOST_AT_ONCE` are awaited, more wait for their turn.

    A call that nobody awaits any more gives its place back at once, and its thread counts as left over. Python's own
    executor, which asyncio insists on as a type, would keep the place: a few calls that hang would be the last.

    Args:
        plugin: The name of the loop's plugin.
        strain: Where threads left over are counted.
    """

    def __init__(self, plugin: str, strain: Strain) -> None:
        super().__init__(max_workers=1)  # which are never started
        self._plugin = plugin
        self._strain = strain
        self._lock = threading.Lock()
        self._queued: deque[_Work] = deque()
        self._awaited = 0
        self._is_closed = False

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> "Future[Any]":
        """Carry out a call; as every executor does.

        Raises:
            RuntimeError: The loop is closed.
        """
        work = _Work(partial(function, *arguments, **named), _CAPABILITY.get())
        with self._lock:
            if self._is_closed:
                raise RuntimeError("The loop of this plugin is closed.")
            self._queued.append(work)
        work.future.add_done_callback(lambda _: self._take_back(work))
        self._start()
        return work.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no call any more. Threads that run are never waited for."""
        with self._lock:
            self._is_closed = True
        super().shutdown(wait=False, cancel_futures=cancel_futures)

    def _start(self) -> None:
        failed: list[tuple[_Work, Exception]] = []
        with self._lock:
            while self._queued and self._awaited < MOST_AT_ONCE:
                work = self._queued.popleft()
                if work.future.cancelled():
                    continue
                try:
                    work.start(f"plugin {self._plugin} to_thread")
                except (RuntimeError, MemoryError) as error:  # the system has no thread to spare
                    failed.append((work, error))
                else:
                    self._awaited += 1
        for work, error in failed:  # without the lock, which those who are told may take
            with suppress(InvalidStateError):
                work.future.set_exception(error)

    def _take_back(self, work: "_Work") -> None:
        with self._lock:
            if work.thread is None:
                with suppress(ValueError):
                    self._queued.remove(work)
                return
        if not work.future.cancelled():
            self._give_place()
            return
        self._strain.leave(work.thread, plugin=self._plugin, capability=work.capability)
        # Calls that wait may be about to be cancelled, too: none of them shall begin in between.
        try:
            asyncio.get_running_loop().call_later(_SETTLING_SECONDS, self._give_place)
        except RuntimeError:  # cancelled by another thread
            self._give_place()

    def _give_place(self) -> None:
        with self._lock:
            self._awaited -= 1
        self._start()


class _Work:
    def __init__(self, call: Callable[[], Any], capability: str | None) -> None:
        self.future: Future[Any] = Future()
        self.capability = capability
        self.thread: threading.Thread | None = None
        self._call = call

    def start(self, name: str) -> None:
        """Begin.

        Raises:
            RuntimeError: No thread can be started.
        """
        thread = threading.Thread(target=self._run, name=name, daemon=True)
        thread.start()
        self.thread = thread

    def _run(self) -> None:
        if self.future.cancelled():
            return
        # Never marked as running, so that it can be cancelled: whoever awaits it is told so at once.
        try:
            result = self._call()
        except BaseException as error:
            with suppress(InvalidStateError):
                self.future.set_exception(error)
        else:
            with suppress(InvalidStateError):
                self.future.set_result(result)

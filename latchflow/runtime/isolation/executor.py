"""What carries out ``asyncio.to_thread``, and looks names up, on the loop of a plugin."""

import asyncio
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from latchflow.runtime.isolation.places import Places, Work
from latchflow.runtime.isolation.strain import Strain

MOST_AT_ONCE = 32

MOST_LOOKUPS = 32

_SETTLING_SECONDS = 0.05
"""What is cancelled together, as by `asyncio.gather` or a task group, is cancelled in turns of the loop within this."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Purpose:
    """One call of a plugin's function: an attempt, for instance. What it leaves over counts together.

    Attributes:
        capability: Named beside what is left over.
    """

    capability: str | None


_PURPOSE: ContextVar[Purpose | None] = ContextVar("purpose", default=None)


@contextmanager
def carrying_out(purpose: Purpose) -> Iterator[None]:
    """What begins in this block, and what that begins in its turn, is for this."""
    token = _PURPOSE.set(purpose)
    try:
        yield
    finally:
        _PURPOSE.reset(token)


class LoopExecutor(ThreadPoolExecutor):
    """A thread for each call; `MOST_AT_ONCE` are awaited, more wait for their turn.

    A call that nobody awaits any more gives its place back at once, and its thread counts as left over. Python's own
    executor, which asyncio insists on as a type, would keep the place: a few calls that hang would be the last.

    The loop looks names up here, too. While no name server answers, such a thread outlives whoever asked, and that is
    not the plugin's doing: it does not count, but keeps its place, one of `MOST_LOOKUPS`, until the system gives up.

    Args:
        plugin: The name of the loop's plugin.
        strain: Where threads left over are counted.
    """

    def __init__(self, plugin: str, strain: Strain) -> None:
        super().__init__(max_workers=1)  # which are never started
        self._plugin = plugin
        self._strain = strain
        self._calls = Places(MOST_AT_ONCE)
        self._lookups = Places(MOST_LOOKUPS)
        self._is_closed = False

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> "Future[Any]":
        """Carry out a call; as every executor does.

        Raises:
            RuntimeError: The loop is closed.
        """
        if self._is_closed:
            raise RuntimeError("The loop of this plugin is closed.")
        call = partial(function, *arguments, **named)
        if function in (socket.getaddrinfo, socket.getnameinfo):
            return self._look_up(call)
        work = Work(call, f"plugin {self._plugin} to_thread")
        purpose = _PURPOSE.get()
        work.future.add_done_callback(lambda _: self._take_back(work, purpose))
        self._calls.put(work)
        return work.future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no call any more. Threads that run are never waited for."""
        self._is_closed = True
        super().shutdown(wait=False, cancel_futures=cancel_futures)

    def _look_up(self, call: Callable[[], Any]) -> "Future[Any]":
        work = Work(call, f"plugin {self._plugin} look-up", self._lookups.give_back)
        work.future.add_done_callback(lambda _: self._lookups.drop(work))
        self._lookups.put(work)
        return work.future

    def _take_back(self, work: Work, purpose: Purpose | None) -> None:
        if self._calls.drop(work):
            return
        if not work.future.cancelled() or work.thread is None:
            self._calls.give_back()
            return
        capability = None if purpose is None else purpose.capability
        self._strain.leave(work.thread, plugin=self._plugin, capability=capability, of=purpose)
        # Calls that wait may be about to be cancelled, too: none of them shall begin in between.
        try:
            asyncio.get_running_loop().call_later(_SETTLING_SECONDS, self._calls.give_back)
        except RuntimeError:  # cancelled by another thread
            self._calls.give_back()

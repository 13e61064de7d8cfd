"""Calls in threads of their own, so many at once; the others wait for their turn."""

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any


class Work:
    """One call.

    Attributes:
        future: What it returned or raised. It can be cancelled at any time: the thread goes on alone then.
        thread: None until it is its turn.

    Args:
        call: What to do.
        name: The thread's.
        on_end: Called by the thread when it is through, whether anybody still waits or not.
    """

    def __init__(self, call: Callable[[], Any], name: str, on_end: Callable[[], None] = lambda: None) -> None:
        self.future: Future[Any] = Future()
        self.thread: threading.Thread | None = None
        self._call = call
        self._name = name
        self._on_end = on_end

    def start(self) -> None:
        """Begin.

        Raises:
            RuntimeError: No thread can be started.
        """
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        thread.start()
        self.thread = thread

    def _run(self) -> None:
        try:
            if not self.future.cancelled():
                self._carry_out()
        finally:
            self._on_end()

    def _carry_out(self) -> None:
        # Never marked as running, so that it can be cancelled: whoever awaits it is told so at once.
        try:
            result = self._call()
        except BaseException as error:
            with suppress(InvalidStateError):
                self.future.set_exception(error)
        else:
            with suppress(InvalidStateError):
                self.future.set_result(result)


class Places:
    """So many threads.

    Args:
        most: How many at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._queued: deque[Work] = deque()
        self._taken = 0

    def put(self, work: Work) -> None:
        """Begin it when there is a place; where no thread can be started, its future has the error."""
        with self._lock:
            self._queued.append(work)
        self._start()

    def drop(self, work: Work) -> bool:
        """Take out what still waits.

        Returns:
            Whether it never began, and so holds no place.
        """
        with self._lock:
            if work.thread is not None:
                return False
            with suppress(ValueError):
                self._queued.remove(work)
            return True

    def give_back(self) -> None:
        """One place is free again."""
        with self._lock:
            self._taken -= 1
        self._start()

    def _start(self) -> None:
        failed: list[tuple[Work, Exception]] = []
        with self._lock:
            while self._queued and self._taken < self._most:
                work = self._queued.popleft()
                if work.future.cancelled():
                    continue
                try:
                    work.start()
                except (RuntimeError, MemoryError) as error:  # the system has no thread to spare
                    failed.append((work, error))
                else:
                    self._taken += 1
        for work, failure in failed:  # without the lock, which those who are told may take
            with suppress(InvalidStateError):
                work.future.set_exception(failure)

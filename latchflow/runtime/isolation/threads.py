"""A plain function of a plugin in a thread of its own."""

import asyncio
import contextvars
import ctypes
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

UNCARRIED = (StopIteration, GeneratorExit)
"""No future carries the first, so that the caller would wait for ever; the second closes whoever awaits it."""


class PluginThread:
    """One call in one thread.

    A thread for each call, not a pool: one that never comes back takes nobody's place, no thread-local value passes
    from one attempt to the next, and what is raised into it to end it cannot meet a later call.

    Attributes:
        outcome: What the function returned or raised.
    """

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        self.outcome: Future[Any] = Future()
        self._function = function
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._is_over = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def interrupt(self) -> None:
        """Raise ``asyncio.CancelledError`` in the thread at its next bytecode; a call into C goes on to its end."""
        with self._lock:
            if self._is_over or self.thread.ident is None:
                return
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(self.thread.ident), ctypes.py_object(asyncio.CancelledError)
            )

    def _run(self) -> None:
        # Raised into it at any line, also when the function was just over.
        with suppress(asyncio.CancelledError):
            try:
                self._carry_out()
            finally:
                self._close()

    def _carry_out(self) -> None:
        try:
            answer = self._context.run(self._function)
        except UNCARRIED as error:
            self._settle(RuntimeError(f"the function raised {type(error).__name__}"))
        except BaseException as error:
            self._settle(error)
        else:
            with suppress(InvalidStateError):
                self.outcome.set_result(answer)

    def _settle(self, error: BaseException) -> None:
        with suppress(InvalidStateError):  # nobody waits any more
            self.outcome.set_exception(error)

    def _close(self) -> None:
        with self._lock:
            self._is_over = True
        _bytecode()


def _bytecode() -> None:
    """Where an exception raised into the thread a moment ago shows up, while somebody is there to catch it."""

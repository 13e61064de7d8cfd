"""A plain function of a plugin in a thread of its own."""

import asyncio
import contextvars
import ctypes
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any

from latchflow.runtime.isolation.culprits import is_own_code

_TRYING_SECONDS = 60.0
_PAUSE_SECONDS = 0.001
_UNDISTURBED_SECONDS = 0.05
"""Whoever waits for the interpreter meanwhile waits so long at most before asking for it."""

_UNDISTURBED = threading.Lock()
"""One at a time: each puts the interpreter's interval back as it found it."""

UNCARRIED = (StopIteration, GeneratorExit)
"""No future carries the first, so that the caller would wait for ever; the second closes whoever awaits it."""


class PluginThread:
    """One call in one thread.

    A thread for each call, not a pool: one that never comes back takes nobody's place, no thread-local value passes
    from one attempt to the next, and what is raised into it to end it cannot meet a later call.

    Attributes:
        outcome: What the function returned or raised.
        end: Done when the function is, which may be long after `outcome` was cancelled.
    """

    def __init__(self, name: str, function: Callable[[], Any]) -> None:
        self.outcome: Future[Any] = Future()
        self.end: Future[None] = Future()
        self._function = function
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._is_over = False
        self.thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.thread.start()

    def interrupt(self) -> None:
        """Raise ``asyncio.CancelledError`` in the thread, once; a call into C goes on to its end first.

        Only where the thread stands in the plugin's own code. Raised inside a library, it could come between taking a
        lock and the `try` that gives it back, and the host waits for locks of the same kind: that of a log handler
        would stop the whole process. Until then it is tried again, by a thread of its own.
        """
        if not self._raise_in_own_code():
            threading.Thread(target=self._keep_trying, name=f"{self.thread.name} ending", daemon=True).start()

    def _keep_trying(self) -> None:
        until = time.monotonic() + _TRYING_SECONDS
        while self.thread.is_alive() and time.monotonic() < until:
            time.sleep(_PAUSE_SECONDS)
            if self._raise_in_own_code():
                return

    def _raise_in_own_code(self) -> bool:
        """True when it was raised, or there is nothing left to end."""
        with _UNDISTURBED, self._lock:
            ident = self.thread.ident
            if self._is_over or ident is None:
                return True
            interval = sys.getswitchinterval()
            # No other thread runs between looking and raising. A switch that was asked for before comes first.
            sys.setswitchinterval(_UNDISTURBED_SECONDS)
            try:
                for _ in range(2):
                    _bytecode()
                if not is_own_code(sys._current_frames().get(ident)):
                    return False
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(ident), ctypes.py_object(asyncio.CancelledError)
                )
                return True
            finally:
                sys.setswitchinterval(interval)

    def _run(self) -> None:
        # Raised into it at any line, also when the function was just over.
        with suppress(asyncio.CancelledError):
            try:
                self._carry_out()
            finally:
                self._close()
        self.end.set_result(None)

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

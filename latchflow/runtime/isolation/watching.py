"""Noticing that an event loop no longer turns: one thread per process watches all of them."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

import structlog

log = structlog.get_logger(__name__)

_LONGEST_TURN = 1.0
_TURNS = 10
"""Looks within the time a loop may be silent, so that it is noticed at most a tenth late."""


class Pulse:
    """Asks a loop for a sign of life.

    The time is counted in turns of the watcher, not by the clock: a process that was frozen as a whole finds its loops
    silent for a long time, and none of them to blame.

    Args:
        loop: Who is asked.
        limit_seconds: How long it may be silent.
        on_silence: Called once in the watcher's thread, when that is over.
        is_needed: Whether anybody waits for the loop; else it is left alone.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        limit_seconds: float,
        on_silence: Callable[[], None],
        *,
        is_needed: Callable[[], bool] = lambda: True,
    ) -> None:
        self.turn_seconds = min(limit_seconds / _TURNS, _LONGEST_TURN)
        self._loop = loop
        self._limit_seconds = limit_seconds
        self._on_silence = on_silence
        self._is_needed = is_needed
        self._silent_seconds = 0.0
        self._is_asked = False

    def look(self, seconds: float) -> bool:
        """Look once; `seconds` have passed since the last time.

        Returns:
            Whether to look again.
        """
        if self._is_asked:
            self._silent_seconds += seconds
            if self._silent_seconds >= self._limit_seconds:
                self._on_silence()
                return False
        elif self._is_needed():
            self._silent_seconds = 0.0
            self._is_asked = True
            try:
                self._loop.call_soon_threadsafe(self._answer)
            except RuntimeError:  # it is closed
                return False
        return True

    def _answer(self) -> None:
        self._is_asked = False


class Watcher:
    """The thread that looks. It lives while there is something to watch."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pulses: set[Pulse] = set()
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    def watch(self, pulse: Pulse) -> None:
        """Look at it until it falls silent or is let go."""
        with self._lock:
            self._pulses.add(pulse)
            self._changed.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="loop watcher", daemon=True)
                self._thread.start()

    def let_go(self, pulse: Pulse) -> None:
        """Look at it no more."""
        with self._lock:
            self._pulses.discard(pulse)
            self._changed.set()

    def _run(self) -> None:
        while True:
            with self._lock:
                pulses = list(self._pulses)
                self._changed.clear()
                if not pulses:
                    self._thread = None
                    return
            seconds = min(pulse.turn_seconds for pulse in pulses)
            if self._changed.wait(seconds):
                continue  # how long it was does not matter: those turns are not counted
            for pulse in pulses:
                self._look(pulse, seconds)

    def _look(self, pulse: Pulse, seconds: float) -> None:
        goes_on = False
        with suppress(Exception):
            goes_on = self._try(pulse, seconds)
        if not goes_on:
            self.let_go(pulse)

    def _try(self, pulse: Pulse, seconds: float) -> bool:
        try:
            return pulse.look(seconds)
        except Exception:
            log.exception("a loop could not be watched")
            raise


WATCHER = Watcher()
"""The watcher of this process."""

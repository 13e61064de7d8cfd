"""Ending a process whose own event loop is blocked: as long as it lives, Temporal hands it the retries, too."""

import asyncio
import faulthandler
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import IO, cast

import structlog

from latchflow.runtime.isolation.culprits import place_of
from latchflow.runtime.isolation.watching import WATCHER, Pulse
from latchflow.runtime.tasks import end_task

EXIT_STATUS = 70
"""Of ``sysexits.h``: a fault of the program itself."""

BLOCKED_SECONDS = 10.0

_STARVED_SECONDS = 30.0
_SENTINEL = str(Path(__file__).with_name("sentinel.py"))
_SIGN_SECONDS = 5.0
_AGAIN_SECONDS = 10.0
_TELLING_SECONDS = 1.0

log = structlog.get_logger(__name__)


@asynccontextmanager
async def guarded(
    *, blocked_seconds: float = BLOCKED_SECONDS, starved_seconds: float = _STARVED_SECONDS
) -> AsyncIterator[None]:
    """While the block runs, end the process when this loop does not turn.

    After `blocked_seconds` the stack is written to stderr and the process exits with status 70. Code that holds the
    interpreter's lock keeps every Python thread from seeing that, so a process beside this one kills it after
    `starved_seconds`, with the stacks of all threads on stderr. None of it counts the time in which this process, or
    the whole machine, was frozen.
    """
    thread_id = threading.get_ident()
    pulse = Pulse(asyncio.get_running_loop(), blocked_seconds, lambda: _end(thread_id, blocked_seconds))
    WATCHER.watch(pulse)
    faulthandler.register(signal.SIGUSR2, file=sys.__stderr__ or sys.stderr, all_threads=True)
    signs = asyncio.create_task(_give_signs(starved_seconds))
    try:
        yield
    finally:
        await end_task(signs)
        faulthandler.unregister(signal.SIGUSR2)
        WATCHER.let_go(pulse)


async def _give_signs(starved_seconds: float) -> None:
    while True:
        try:
            process = _start_sentinel(starved_seconds)
        except OSError as error:  # no process or file to spare, for instance
            log.error(
                "the process that ends this one when no thread runs cannot be started; it is tried again",
                error=str(error),
                again_seconds=_AGAIN_SECONDS,
            )
            await asyncio.sleep(_AGAIN_SECONDS)
            continue
        with _ended(process) as signs, suppress(BrokenPipeError):  # it was killed: another one is started
            while True:
                with suppress(BlockingIOError):  # it is stopped, and does not read
                    os.write(signs, b".")
                await asyncio.sleep(min(_SIGN_SECONDS, starved_seconds / 3))


def _start_sentinel(starved_seconds: float) -> "subprocess.Popen[bytes]":
    # In a session of its own: signals to the group are for this process; its end closes the pipe.
    command = [sys.executable, "-I", "-S", _SENTINEL, str(os.getpid()), str(starved_seconds)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, bufsize=0, start_new_session=True)


@contextmanager
def _ended(process: "subprocess.Popen[bytes]") -> Iterator[int]:
    """Give it signs by this file descriptor while the block runs, and end it then."""
    stdin = cast("IO[bytes]", process.stdin)
    os.set_blocking(stdin.fileno(), False)
    try:
        yield stdin.fileno()
    finally:
        stdin.close()
        process.kill()  # one that is stopped would not come to see that
        process.wait()


def _end(thread_id: int, blocked_seconds: float) -> None:
    # The loop may be blocked by the very lock of the log, or by a pipe that nobody reads: telling has a second.
    telling = threading.Thread(target=_tell, args=(thread_id, blocked_seconds), daemon=True)
    try:
        telling.start()
        telling.join(_TELLING_SECONDS)
    finally:
        os._exit(EXIT_STATUS)


def _tell(thread_id: int, blocked_seconds: float) -> None:
    frame = sys._current_frames().get(thread_id)
    stack = "".join(traceback.format_stack(frame)) if frame else ""
    text = f"the process's own loop was blocked for {blocked_seconds:g} s at {place_of(thread_id)}; it ends\n{stack}"
    os.write(2, text.encode("utf-8", "replace"))

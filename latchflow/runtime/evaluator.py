"""Evaluating expressions within a time limit: in a process beside the worker, which can be killed.

The CEL library holds the interpreter while it evaluates and knows no limits, so a few comprehensions over a list that
the sender of a webhook chose would freeze every thread of a worker, or overrun its stack.
"""

import asyncio
import json
import os
import signal
import struct
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import latchflow
from latchflow.errors import UnavailableError
from latchflow.expressions import MAX_DEPTH, ExpressionError
from latchflow.runtime.evaluator_process import MAX_ANSWER_BYTES, frame

_HOME = str(Path(latchflow.__file__).resolve().parent.parent)
_START_SECONDS = 30.0
_STOP_SECONDS = 1.0
_LENGTH = struct.Struct(">I")
_LARGE = 256 * 1024
# No keys and no addresses of databases: only what an interpreter needs to start.
_ENVIRONMENT = ("PATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LANG", "TZ")


class Evaluator:
    """One process of its own for the expressions of a worker; started by the first one, replaced when it ends.

    Requests wait for each other; the time they wait does not count. Belongs to one event loop.
    """

    def __init__(self, *, limit_seconds: float = 5.0) -> None:
        self._limit_seconds = limit_seconds
        self._lock = asyncio.Lock()
        self._process: asyncio.subprocess.Process | None = None
        self._is_closed = False

    async def evaluate(self, source: str, variables: Mapping[str, Any]) -> Any:
        """As `latchflow.expressions.evaluate`.

        Raises:
            ExpressionError: It cannot be evaluated, took too long, or ended the process.
            UnavailableError: The process cannot be started.
        """
        return await self._ask(["expression", source, variables])

    async def evaluate_template(self, value: Any, variables: Mapping[str, Any]) -> Any:
        """As `latchflow.expressions.evaluate_template`; the limit is that of all its expressions together.

        Raises:
            ExpressionError: An expression cannot be evaluated, took too long, or ended the process.
            UnavailableError: The process cannot be started.
        """
        return await self._ask(["template", value, variables])

    async def aclose(self) -> None:
        """End the process, once the request in progress has its answer."""
        self._is_closed = True
        async with self._lock:
            process, self._process = self._process, None
            if process is None:
                return
            if process.stdin is not None:
                process.stdin.close()
            await _wait(process)

    async def _ask(self, request: list[Any]) -> Any:
        message = await asyncio.to_thread(_framed, request)  # in a thread: there may be megabytes of it
        async with self._lock:
            for is_last in (False, True):
                exchange = _Exchange()
                process = await self._running()
                try:
                    async with asyncio.timeout(self._limit_seconds):
                        return await exchange.run(process, message)
                except TimeoutError:
                    await self._end()
                    raise self._stopped(exchange) from None
                except (EOFError, OSError):
                    status = await self._end(is_ending=True)
                    if status == -signal.SIGALRM:
                        raise self._stopped(exchange) from None
                    # Killed before it had read the request: then it was not this one that ended it.
                    if exchange.begun is not None or is_last:
                        raise _ended(exchange, status) from None
                except asyncio.CancelledError:
                    await self._end()
                    raise
        raise AssertionError("the second round answers or raises")  # pragma: no cover

    async def _running(self) -> asyncio.subprocess.Process:
        if self._is_closed:
            raise UnavailableError("Expressions are not evaluated any more: this worker is stopping.")
        if self._process is None or self._process.returncode is not None:
            self._process = await _start(self._limit_seconds)
        return self._process

    async def _end(self, *, is_ending: bool = False) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        return await _wait(process) if is_ending else await _kill(process)

    def _stopped(self, exchange: "_Exchange") -> ExpressionError:
        return ExpressionError(
            f"{exchange.name} cannot be evaluated: it took longer than {self._limit_seconds:g} s and was stopped. Go "
            "over each list once instead of once per item, or compare its size() with a bound first."
        )


class _Exchange:
    """One request and its answer.

    Attributes:
        begun: The expression that was evaluated last; None until the process has read the request.
    """

    def __init__(self) -> None:
        self.begun: str | None = None

    @property
    def name(self) -> str:
        """What to call the expression in an error."""
        return "This expression" if self.begun is None else repr(self.begun)

    async def run(self, process: asyncio.subprocess.Process, message: bytes) -> Any:
        """Send the request, then read until its answer."""
        await _send(process, message)
        while True:
            match await _receive(process):
                case ["begun", str(source)]:
                    self.begun = source
                case ["done", value]:
                    return value
                case ["failed", str(text), int(line), int(column)]:
                    raise ExpressionError(text, line, column)


async def _start(limit_seconds: float) -> asyncio.subprocess.Process:
    path = os.pathsep.join([_HOME, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "latchflow.runtime.evaluator_process",
            str(limit_seconds),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={**environment, "PYTHONPATH": path},
            start_new_session=True,
            limit=2 * MAX_ANSWER_BYTES,  # reading never pauses, so that the end of a killed process is always seen
        )
    except OSError as error:
        raise UnavailableError(f"The process that evaluates expressions cannot be started: {error}.") from None
    try:
        async with asyncio.timeout(_START_SECONDS):
            await _receive(process)
    except (EOFError, OSError) as error:  # OSError: TimeoutError is one
        status = await _wait(process)
        message = f"The process that evaluates expressions did not start (status {status}); its reason is on stderr."
        raise UnavailableError(message) from error
    except asyncio.CancelledError:
        await _kill(process)
        raise
    return process


async def _send(process: asyncio.subprocess.Process, message: bytes) -> None:
    assert process.stdin is not None  # noqa: S101 - it was started with pipes
    try:
        process.stdin.write(message)
        await process.stdin.drain()
    except RuntimeError as error:  # how uvloop says that the pipe is closed
        raise BrokenPipeError(str(error)) from None


async def _receive(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None  # noqa: S101 - it was started with pipes
    (length,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
    body = await process.stdout.readexactly(length)
    return json.loads(body) if length < _LARGE else await asyncio.to_thread(json.loads, body)


async def _wait(process: asyncio.subprocess.Process) -> int:
    """The status of a process that is about to end; killing it would hide how it ends by itself."""
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            return await process.wait()
    except TimeoutError:
        return await _kill(process)
    except asyncio.CancelledError:
        await _kill(process)
        raise


async def _kill(process: asyncio.subprocess.Process) -> int:
    with suppress(ProcessLookupError):
        process.kill()
    if process.stdin is not None:
        process.stdin.close()
    return await process.wait()


def _framed(request: list[Any]) -> bytes:
    try:
        return frame(request)
    except RecursionError:
        message = f"The template or its data is nested deeper than {MAX_DEPTH} levels. Make it flatter."
        raise ExpressionError(message) from None


def _ended(exchange: _Exchange, status: int) -> ExpressionError:
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    return ExpressionError(
        f"{exchange.name} cannot be evaluated: it ended the evaluator ({how}), as one does that needs too much memory "
        "or nests too deep. Make it simpler, or give it less data."
    )

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
from pathlib import Path
from typing import Any

import latchflow
from latchflow.errors import UnavailableError
from latchflow.expressions import MAX_DEPTH, ExpressionError
from latchflow.runtime.evaluator_process import EXTRA_SECONDS, MAX_ANSWER_BYTES, frame

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
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    if process.stdin is not None:
                        process.stdin.close()
                    await process.wait()
            except TimeoutError:
                await _kill(process)

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
                    raise _stopped(exchange, self._limit_seconds) from None
                except (EOFError, OSError):
                    status = await self._end()
                    # Killed before it had read the request: then it was not this one that ended it.
                    if exchange.has_begun or is_last:
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

    async def _end(self) -> int:
        process, self._process = self._process, None
        return await _kill(process) if process is not None else 0


class _Exchange:
    """One request and its answer.

    Attributes:
        begun: The expression that was evaluated last.
    """

    def __init__(self) -> None:
        self.begun = ""

    @property
    def has_begun(self) -> bool:
        return self.begun != ""

    async def run(self, process: asyncio.subprocess.Process, message: bytes) -> Any:
        assert process.stdin is not None  # noqa: S101 - it was started with pipes
        process.stdin.write(message)
        await process.stdin.drain()
        while True:
            match await _receive(process):
                case ["begun", str(source)]:
                    self.begun = source
                case ["done", value]:
                    return value
                case ["failed", str(text), int(line), int(column)]:
                    raise ExpressionError(text, line, column)


async def _start(limit_seconds: float) -> asyncio.subprocess.Process:
    home = str(Path(latchflow.__file__).resolve().parent.parent)
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
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
        status = await _kill(process)
        message = f"The process that evaluates expressions did not start (status {status}); its reason is on stderr."
        raise UnavailableError(message) from error
    except asyncio.CancelledError:
        await _kill(process)
        raise
    return process


async def _receive(process: asyncio.subprocess.Process) -> Any:
    assert process.stdout is not None  # noqa: S101 - it was started with pipes
    (length,) = _LENGTH.unpack(await process.stdout.readexactly(_LENGTH.size))
    body = await process.stdout.readexactly(length)
    return json.loads(body) if length < _LARGE else await asyncio.to_thread(json.loads, body)


async def _kill(process: asyncio.subprocess.Process) -> int:
    if process.returncode is None:
        try:
            process.kill()
        except ProcessLookupError:
            pass
    if process.stdin is not None:
        process.stdin.close()
    return await process.wait()


def _framed(request: list[Any]) -> bytes:
    try:
        return frame(request)
    except RecursionError:
        message = f"The template or its data is nested deeper than {MAX_DEPTH} levels. Make it flatter."
        raise ExpressionError(message) from None


def _stopped(exchange: _Exchange, limit_seconds: float) -> ExpressionError:
    what = repr(exchange.begun) if exchange.has_begun else "This expression"
    return ExpressionError(
        f"{what} cannot be evaluated: it took longer than {limit_seconds:g} s and was stopped. Go over each list once "
        "instead of once per item, or compare its size() with a bound first."
    )


def _ended(exchange: _Exchange, status: int) -> ExpressionError:
    what = repr(exchange.begun) if exchange.has_begun else "This expression"
    if status == -signal.SIGALRM:
        return _stopped(exchange, EXTRA_SECONDS)
    how = f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"
    return ExpressionError(
        f"{what} cannot be evaluated: it ended the evaluator ({how}), as one does that needs too much memory or "
        "nests too deep. Make it simpler, or give it less data."
    )

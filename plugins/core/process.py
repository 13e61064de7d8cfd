"""Running a program as a process group of its own, which ends as a whole."""

import asyncio
import json
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta

MAX_BYTES = 1024 * 1024
"""Kept of each stream; the rest is read and left out."""

_MAX_WRITTEN_BYTES = 1_500_000
"""A stream's text as JSON: two of them fit into an output, whatever the program wrote."""
_TAIL_BYTES = 4096
_TERM_SECONDS = 1.0
"""Between SIGTERM and SIGKILL. A worker that stops waits for two seconds."""
_PIPE_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Command:
    """What to run."""

    argv: Sequence[str]
    cwd: str
    env: Mapping[str, str] = field(repr=False)
    stdin: bytes | None = field(repr=False)
    timeout: timedelta | None


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A program that ended by itself.

    Attributes:
        exit_code: Below 0: the signal that ended it.
        stderr_tail: The end of what it wrote there, however much that was.
    """

    exit_code: int
    stdout: str
    stderr: str
    stderr_tail: str


async def run(command: Command) -> Finished:
    """Run a program to its end. Whatever it leaves of its process group is ended then, or when this is cancelled.

    Raises:
        OSError: It cannot be started.
        TimeoutError: It did not end in time.
    """
    transport, program = await asyncio.get_running_loop().subprocess_exec(
        _Program,
        *command.argv,
        cwd=command.cwd,
        env=dict(command.env),
        stdin=asyncio.subprocess.DEVNULL if command.stdin is None else asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    group = transport.get_pid()
    try:
        _feed(transport, command.stdin)
        async with asyncio.timeout(command.timeout.total_seconds() if command.timeout else None):
            await program.exited.wait()
    except BaseException:
        _signal(group, signal.SIGTERM)
        await _at_most(_TERM_SECONDS, program.exited)
        raise
    finally:
        _signal(group, signal.SIGKILL)  # also what outlived the program, and would hold its pipes open
        # One that left the group may hold them still; nobody waits for it.
        await _at_most(_PIPE_SECONDS, program.closed)
        transport.close()
    exit_code = transport.get_returncode()
    return Finished(
        exit_code=-signal.SIGKILL if exit_code is None else exit_code,
        stdout=program.stdout.text(),
        stderr=program.stderr.text(),
        stderr_tail=bytes(program.stderr.tail).decode("utf-8", "replace"),
    )


class _Program(asyncio.SubprocessProtocol):
    """Keeps what a program writes, and says when it has ended.

    Attributes:
        exited: The program itself has ended; others may still hold its pipes.
        closed: Nobody holds them any more.
    """

    def __init__(self) -> None:
        self.stdout = _Kept()
        self.stderr = _Kept()
        self.exited = asyncio.Event()
        self.closed = asyncio.Event()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        (self.stdout if fd == 1 else self.stderr).add(data)

    def process_exited(self) -> None:
        self.exited.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed.set()


@dataclass
class _Kept:
    """The beginning of a stream, its end, and how much there was."""

    head: bytearray = field(default_factory=bytearray)
    tail: bytes = b""
    size: int = 0

    def add(self, data: bytes) -> None:
        self.size += len(data)
        self.head += data[: MAX_BYTES - len(self.head)]
        self.tail = (self.tail + data)[-_TAIL_BYTES:]

    def text(self) -> str:
        """What it said, with a last line that tells how much was left out."""
        text = bytes(self.head).decode("utf-8", "replace").replace("\0", "\ufffd")
        left_out = self.size - len(self.head)
        while (written := len(json.dumps(text, ensure_ascii=False).encode())) > _MAX_WRITTEN_BYTES:
            kept = text[: max(len(text) * _MAX_WRITTEN_BYTES // written - 1, 0)]
            left_out += len(text[len(kept) :].encode())
            text = kept
        return f"{text}\n[{left_out} more bytes were left out]" if left_out else text


def _feed(transport: asyncio.SubprocessTransport, content: bytes | None) -> None:
    pipe = transport.get_pipe_transport(0)
    if isinstance(pipe, asyncio.WriteTransport) and content is not None:
        pipe.write(content)
        pipe.close()  # once everything is written


async def _at_most(seconds: float, event: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):  # nobody is left of it
        os.killpg(group, number)

"""What a program prints: kept in a file of bounded size, and shown on the console if wished."""

import asyncio
import os
from collections import deque
from collections.abc import Callable
from pathlib import Path

_MAX_BYTES = 16 * 1024 * 1024
_TAIL_LINES = 20
_LAST_WORDS_SECONDS = 0.5


class PartLog:
    """The log of one part; a restarted part goes on in the same one."""

    def __init__(self, path: Path, echo: Callable[[str], None] | None = None) -> None:
        self.path = path
        self._echo = echo
        self._tail: deque[str] = deque(maxlen=_TAIL_LINES)
        self._rest = b""

    @property
    def tail(self) -> list[str]:
        """The last lines."""
        return list(self._tail)

    def note(self, chunk: bytes) -> None:
        """Take in what the program printed."""
        if self.path.exists() and self.path.stat().st_size > _MAX_BYTES:
            self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab") as file:
            file.write(chunk)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        for line in lines:
            self._take(line)
        if len(self._rest) > _MAX_BYTES:
            self._rest = b""

    def flush(self) -> None:
        """Count an unfinished last line as a line."""
        if self._rest:
            self._take(self._rest)
            self._rest = b""

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip("\r")
        self._tail.append(text)
        if self._echo is not None:
            self._echo(text)


class LogPipe:
    """The pipe between one process and its log.

    It is not the pipe of asyncio's own subprocesses: there, waiting for a process waits for its children too, as long
    as they hold the pipe.
    """

    def __init__(self, log: PartLog) -> None:
        self._log = log
        self._read_end, self.write_end = os.pipe()
        self._reading: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to read; the process has its copy of the write end, so ours is closed."""
        os.close(self.write_end)
        self._reading = asyncio.create_task(self._read())

    def abandon(self) -> None:
        """Close both ends: the process could not be started."""
        os.close(self.write_end)
        os.close(self._read_end)

    async def finish(self) -> None:
        """Read what the ended process still left in the pipe."""
        if self._reading is not None:
            await asyncio.wait({self._reading}, timeout=_LAST_WORDS_SECONDS)
            self._reading.cancel()
            await asyncio.wait({self._reading})
        self._log.flush()

    async def _read(self) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(self._read_end, "rb", buffering=0)
        )
        try:
            while chunk := await reader.read(65536):
                self._log.note(chunk)
        finally:
            transport.close()

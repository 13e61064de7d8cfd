"""Which processes belong to a stack, written down so that the next start can end what a killed one left behind."""

import json
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from latchflow.dev.private_file import write_private

_GRACE_SECONDS = 4.0
_SAME_START_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One process: a process id alone may belong to somebody else by now, together with its start it cannot."""

    name: str
    pid: int
    started_at: float
    stop_signal: int


class ProcessState:
    """The processes of a stack that are running now, kept in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: dict[int, Entry] = {}

    def add(self, name: str, pid: int, stop_signal: signal.Signals) -> None:
        """Write down a process that was just started."""
        try:
            started_at = psutil.Process(pid).create_time()
        except psutil.NoSuchProcess:
            return
        self._entries[pid] = Entry(name=name, pid=pid, started_at=started_at, stop_signal=stop_signal)
        self._write()

    def remove(self, pid: int) -> None:
        """Strike out a process that has ended."""
        if self._entries.pop(pid, None) is not None:
            self._write()

    def _write(self) -> None:
        write_private(self._path, json.dumps([asdict(entry) for entry in self._entries.values()]))


def end_leftovers(path: Path) -> list[str]:
    """End what an earlier stack left running.

    Returns:
        One ``name (pid)`` for each process that was ended.
    """
    entries = _read(path)
    found = [(entry, process) for entry in entries if (process := _still_running(entry)) is not None]
    for entry, process in found:
        _signal(process, entry.stop_signal)
    wait_until_gone((process for _, process in found), _GRACE_SECONDS)
    for entry, process in found:
        if _is_alive(process):
            _signal(process, signal.SIGKILL)
        end_group(entry.pid)
    wait_until_gone((process for _, process in found), _GRACE_SECONDS)
    path.unlink(missing_ok=True)
    return [f"{entry.name} ({entry.pid})" for entry, _ in found]


def end_group(pid: int) -> None:
    """Kill what is left of the process group that ``pid`` led; each program of a stack leads one."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return


def wait_until_gone(processes: Iterable[psutil.Process], seconds: float) -> None:
    """Wait for the end of processes that need not be children of this one."""
    deadline = time.monotonic() + seconds
    waiting = list(processes)
    while waiting and time.monotonic() < deadline:
        waiting = [process for process in waiting if _is_alive(process)]
        if waiting:
            time.sleep(0.02)


def _read(path: Path) -> list[Entry]:
    try:
        return [Entry(**fields) for fields in json.loads(path.read_text(encoding="utf-8"))]
    except (FileNotFoundError, ValueError, TypeError):
        return []


def _still_running(entry: Entry) -> psutil.Process | None:
    try:
        process = psutil.Process(entry.pid)
        is_same = abs(process.create_time() - entry.started_at) < _SAME_START_SECONDS
    except psutil.Error:
        return None
    return process if is_same and _is_alive(process) else None


def _is_alive(process: psutil.Process) -> bool:
    # In a container nobody may be there to reap an orphan; a zombie holds no file and no port.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _signal(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.Error:
        return

"""A stack from outside, with stand-ins for API and worker: its own process, files and signals."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

FAKE_APP = Path(__file__).parent / "fake_app"


def is_running(pid: int) -> bool:
    """Whether a process does anything; in a container a zombie may stay for want of somebody to reap it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    """Poll, and say what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class DevProcess:
    """One `latchflow dev` on a data directory."""

    def __init__(
        self, folder: Path, *options: str, data_dir: Path | None = None, stdout: int | None = None, **env: str
    ) -> None:
        self.notes = folder / "notes"
        self.notes.mkdir(exist_ok=True)
        self.data_dir = data_dir or folder / "data"
        self.ready_file = folder / "ready.json"
        self._output = (folder / "output.txt").open("w+b")
        command = [sys.executable, "-m", "latchflow.cli", "dev", "--data-dir", str(self.data_dir)]
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            [*command, "--ready-file", str(self.ready_file), *options],
            env={**os.environ, "LATCHFLOW_HOME": str(FAKE_APP), "FAKE_NOTES": str(self.notes), **env},
            stdin=subprocess.DEVNULL,
            stdout=self._output if stdout is None else stdout,
            stderr=subprocess.STDOUT,
        )

    @property
    def output(self) -> str:
        self._output.seek(0)
        return self._output.read().decode()

    @property
    def ready(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.ready_file.read_text())
        return document

    @property
    def pids(self) -> list[int]:
        """The processes that it wrote down."""
        state = self.data_dir / "state.json"
        return [entry["pid"] for entry in json.loads(state.read_text())] if state.exists() else []

    def until_ready(self) -> dict[str, Any]:
        wait_until(lambda: self.ready_file.exists() or self.process.poll() is not None, "ready", 60)
        assert self.process.poll() is None, self.output
        return self.ready

    def until_restarted(self, part: str, old_pid: int) -> int:
        wait_until(lambda: self.ready["pids"][part] not in (old_pid, None), f"{part} started again", 10)
        pid: int = self.ready["pids"][part]
        return pid

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            try:
                self.stop()
            except subprocess.TimeoutExpired:
                self.process.kill()
        for pid in self.pids:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        self._output.close()

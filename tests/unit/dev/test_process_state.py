import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from latchflow.dev.process_state import ProcessState, end_leftovers

_IGNORES_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"


@pytest.fixture
def process() -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, "-c", _IGNORES_SIGTERM]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        running.stdout.readline()
        yield running
        running.kill()


def test_a_process_that_was_left_is_ended_even_against_its_will(
    tmp_path: Path, process: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latchflow.dev.process_state._GRACE_SECONDS", 0.2)
    path = tmp_path / "state.json"
    ProcessState(path).add("worker", process.pid, signal.SIGTERM)

    ended = end_leftovers(path)

    assert ended == [f"worker ({process.pid})"]
    assert process.wait(5) == -signal.SIGKILL
    assert not path.exists()


def test_a_process_that_started_at_another_time_is_somebody_elses(
    tmp_path: Path, process: "subprocess.Popen[bytes]"
) -> None:
    path = tmp_path / "state.json"
    ProcessState(path).add("worker", process.pid, signal.SIGKILL)
    [entry] = json.loads(path.read_text())
    path.write_text(json.dumps([{**entry, "started_at": entry["started_at"] - 60}]))

    assert end_leftovers(path) == []
    assert process.poll() is None


def test_a_process_that_ended_is_struck_out(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    state = ProcessState(path)
    state.add("api", os.getpid(), signal.SIGTERM)

    state.remove(os.getpid())

    assert json.loads(path.read_text()) == []


@pytest.mark.parametrize("content", ["", "{", "[1]", '[{"pid": 1}]'])
def test_a_damaged_state_file_stops_no_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "state.json"
    path.write_text(content)

    assert end_leftovers(path) == []

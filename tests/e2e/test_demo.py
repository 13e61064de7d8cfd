import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.e2e.stack import ROOT
from tests.integration.dev.dev_process import is_running, wait_until


def demo(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.demo", "--data-dir", tmp_path / "demo", *options],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=150,
    )


def test_demo_shows_a_webhook_that_became_a_mail_with_its_audit_trail(tmp_path: Path) -> None:
    done = demo(tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "Subject: [analytical/engine] 2 new commits by Ada Lovelace" in done.stdout
    assert "WorkflowExecutionCompleted SUCCEEDED" in done.stdout
    assert "email.send" in done.stdout.partition("Read the audit trail")[2]


def test_demo_with_a_wrong_secret_fails_and_names_the_step(tmp_path: Path) -> None:
    done = demo(tmp_path, "--wrong-secret")

    assert done.returncode == 1
    assert "FAILED at the step Send a GitHub push delivery, signed" in done.stdout
    assert "answered 401" in done.stdout


def test_ctrl_c_stops_the_stack_in_order(tmp_path: Path) -> None:
    data_dir = tmp_path / "demo"
    demo = subprocess.Popen(
        [sys.executable, "-m", "examples.demo", "--data-dir", data_dir],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    state = data_dir / "state.json"
    wait_until(lambda: state.exists() and len(json.loads(state.read_text())) >= 2, "the first programs")
    (dev,) = psutil.Process(demo.pid).children()
    parts = [entry["pid"] for entry in json.loads(state.read_text())]

    os.killpg(demo.pid, signal.SIGINT)  # as a terminal does

    assert os.getsid(dev.pid) == dev.pid
    assert demo.wait(40) == 130
    assert not any(is_running(pid) for pid in [dev.pid, *parts])


@pytest.mark.long
@pytest.mark.timeout(200)
def test_demo_with_a_frozen_worker_fails_and_names_the_step(tmp_path: Path) -> None:
    done = demo(tmp_path, "--stop-worker")

    assert done.returncode == 1
    assert "FAILED at the step Watch the run" in done.stdout
    assert "still RUNNING" in done.stdout

"""The README as its reader lives it: a stack of `latchflow dev`, and every block pasted into one shell."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

ROOT = Path(__file__).parents[2]
BINARIES = Path(sys.executable).parent
# A block is run unless a comment `<!-- not run: why -->` stands on the line before it.
_BLOCK = re.compile(r"(?P<mark><!-- not run:[^>]*-->\n)?```bash\n(?P<code>.*?)```", re.DOTALL)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Path]:
    """A folder in which the stack that the README starts is running."""
    data_dir = tmp_path / ".latchflow"
    with (tmp_path / "output.txt").open("w+") as output:
        process = subprocess.Popen(
            [BINARIES / "latchflow", "dev", "--data-dir", data_dir, "--ready-file", data_dir / "ready.json"],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            deadline = time.monotonic() + 60
            while not (data_dir / "ready.json").exists():
                output.seek(0)
                assert process.poll() is None, output.read()
                assert time.monotonic() < deadline, output.read()
                time.sleep(0.05)
            yield tmp_path
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def test_the_commands_of_the_readme_do_what_it_says(stack: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [match["code"] for match in _BLOCK.finditer(text) if match["mark"] is None]

    shell = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=stack,
        env={**os.environ, "PATH": f"{BINARIES}{os.pathsep}{os.environ['PATH']}", "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert shell.returncode == 0, shell.stderr
    ready = json.loads((stack / ".latchflow" / "ready.json").read_text(encoding="utf-8"))
    events = _all_closed(ready)
    assert {event["triggerName"]: event["status"] for event in events} == {"orders": "SUCCEEDED", "pushes": "SUCCEEDED"}
    mails = httpx2.get(f"{ready['smtpSinkUrl']}/messages", trust_env=False).json()["items"]
    assert {mail["subject"]: mail["textBody"].strip() for mail in mails} == {
        "Order: 3 x lamp": "Total: 57",
        "ada pushed to analytical/engine": "Add the mill\nNumber the store",
    }


def _all_closed(ready: dict[str, Any]) -> list[dict[str, Any]]:
    """The events, once none of them is open: the README does not wait for its last one."""
    deadline = time.monotonic() + 30
    while True:
        answer = httpx2.get(
            f"{ready['apiUrl']}/admin/events",
            headers={"Authorization": f"Bearer {ready['adminToken']}"},
            trust_env=False,
        )
        events: list[dict[str, Any]] = answer.raise_for_status().json()["items"]
        if all(event["closedAt"] for event in events):
            return events
        assert time.monotonic() < deadline, events
        time.sleep(0.05)

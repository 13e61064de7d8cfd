"""The watchdog ends its process, so each test has one to spare."""

import signal
import subprocess
import sys
import time

_PROGRAM = """
import asyncio, re, sys, time
from latchflow.runtime.isolation.watchdog import guarded

async def main(what):
    async with guarded(blocked_seconds=1.0, starved_seconds=3.0):
        print("ready", flush=True)
        await asyncio.sleep(0.3)
        if what == "block":
            time.sleep(30)
        if what == "starve":
            re.match(r"(a+)+b", "a" * 60)
        await asyncio.sleep(float(what))

asyncio.run(main(sys.argv[1]))
"""


def _start(what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_a_process_whose_loop_is_blocked_ends_with_status_70_and_says_where() -> None:
    process = _start("block")
    out, err = process.communicate(timeout=30)

    assert process.returncode == 70
    assert "time.sleep" in out + err or "<string>" in out + err
    assert "own loop was blocked" in out + err


def test_a_process_that_no_python_thread_can_look_at_ends_too() -> None:
    process = _start("starve")
    _, err = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "Timeout (" in err
    assert "line 12 in main" in err


def test_a_process_whose_loop_turns_goes_on() -> None:
    process = _start("2.5")
    process.communicate(timeout=30)

    assert process.returncode == 0


def test_a_process_that_was_frozen_as_a_whole_goes_on() -> None:
    process = _start("2")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(2)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=30)

    assert process.returncode == 0

"""The watchdog ends its process, so each test has one to spare."""

import signal
import subprocess
import sys
import time

import psutil
import pytest

_PROGRAM = """
import asyncio, ctypes, os, re, sys, time
from latchflow.runtime.isolation import watchdog
from latchflow.runtime.isolation.watchdog import guarded

async def main(what):
    watchdog._AGAIN_SECONDS = 0.1
    python = sys.executable
    if what == "late":
        sys.executable = "/nonexistent/python"
    async with guarded(blocked_seconds=1.0, starved_seconds=3.0):
        if what == "fork":
            await asyncio.sleep(0.3)
            if (child := os.fork()) == 0:
                time.sleep(30)
                os._exit(0)
            print(child, flush=True)
            what = "30"
        print("ready", flush=True)
        await asyncio.sleep(0.3)
        if what == "block":
            time.sleep(30)
        if what == "late":
            sys.executable = python
            await asyncio.sleep(0.5)
        if what in ("starve", "late"):
            re.match(r"(a+)+b", "a" * 60)
        if what == "sleep":
            while ctypes.PyDLL(None).sleep(60): pass  # a signal ends one
        await asyncio.sleep(float(what))

asyncio.run(main(sys.argv[1]))
"""


def _start(what: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, what], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _sentinel_of(process: subprocess.Popen[str], *, before: psutil.Process | None = None) -> psutil.Process:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children():
            if child != before:
                return child
        time.sleep(0.02)
    raise AssertionError("it has no sentinel")


def test_a_process_whose_loop_is_blocked_ends_with_status_70_and_says_where() -> None:
    process = _start("block")
    out, err = process.communicate(timeout=30)

    assert process.returncode == 70
    assert "time.sleep" in out + err or "<string>" in out + err
    assert "own loop was blocked" in out + err


@pytest.mark.parametrize(("what", "line"), [("starve", 27), ("sleep", 29)])
def test_a_process_that_no_python_thread_can_look_at_ends_too(what: str, line: int) -> None:
    process = _start(what)
    _, err = process.communicate(timeout=60)

    assert process.returncode == -signal.SIGKILL
    assert f"process {process.pid} let none of its threads run for 3 s; it is ended" in err
    assert f"line {line} in main" in err


def test_a_process_whose_loop_turns_goes_on() -> None:
    process = _start("2.5")
    process.communicate(timeout=30)

    assert process.returncode == 0


def test_a_process_that_was_frozen_as_a_whole_goes_on() -> None:
    process = _start("2")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGSTOP)
    time.sleep(6)  # twice the limit
    process.send_signal(signal.SIGCONT)
    _, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (0, "")


def test_a_process_that_was_frozen_with_its_sentinel_goes_on() -> None:
    process = _start("2")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    both = [psutil.Process(process.pid), _sentinel_of(process)]
    for frozen in both:
        frozen.suspend()
    time.sleep(6)
    for frozen in reversed(both):
        frozen.resume()
    _, err = process.communicate(timeout=30)

    assert (process.returncode, err) == (0, "")


def test_a_sentinel_that_was_killed_is_replaced_and_none_outlives_its_process() -> None:
    process = _start("30")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    first = _sentinel_of(process)
    first.kill()
    second = _sentinel_of(process, before=first)
    process.kill()
    process.communicate(timeout=30)

    psutil.wait_procs([second], timeout=5)
    assert not second.is_running()


def test_a_sentinel_is_gone_with_its_process_though_a_child_of_that_keeps_the_pipe() -> None:
    process = _start("fork")
    assert process.stdout is not None
    child = psutil.Process(int(process.stdout.readline()))
    assert process.stdout.readline() == "ready\n"
    (sentinel,) = (each for each in psutil.Process(process.pid).children() if each != child)
    process.kill()
    process.wait(10)
    _, alive = psutil.wait_procs([sentinel], timeout=2.5)  # it would count to 3 seconds
    child.kill()
    _, err = process.communicate(timeout=30)

    assert (alive, err) == ([], "")


def test_a_sentinel_that_cannot_be_started_is_reported_and_tried_again() -> None:
    process = _start("late")
    out, err = process.communicate(timeout=60)

    assert "cannot be started; it is tried again" in out
    assert process.returncode == -signal.SIGKILL
    assert f"process {process.pid} let none of its threads run for 3 s; it is ended" in err


def test_a_sentinel_that_is_stopped_does_not_hold_up_an_orderly_stop() -> None:
    process = _start("1")
    sentinel = _sentinel_of(process)
    sentinel.suspend()
    try:
        process.communicate(timeout=15)
    finally:
        process.kill()

    assert process.returncode == 0
    assert not sentinel.is_running()

"""Parts that stand still for a while and go on: not dead, and the more dangerous for it."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.stack import Stack
from tests.e2e.test_killing import pid_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

_ONCE = {"maxAttempts": 1}


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[Stack]:
    running = Stack(tmp_path, "--processes", "2")
    yield running
    running.close()


@contextmanager
def _frozen(pid: int) -> Iterator[None]:
    """A process and all below it stand still while the block runs."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            process.send_signal(signal.SIGCONT)


def _working(stack: Stack, *before: dict[str, Any], seconds: float) -> str:
    trigger_id = stack.github_trigger("frozen")
    config = {"trace": str(stack.trace), "seconds": seconds, "least": seconds}
    capability = {"plugin": "acme-chaos", "key": "work"}
    action = stack.create("actions", name="work", capability=capability, config=config, retryPolicy=_ONCE)
    steps = [*before, {"name": "work", "actionId": action["id"]}]
    stack.create("pipelines", name="frozen", triggers=[{"triggerId": trigger_id}], steps=steps)
    return trigger_id


def _calls(stack: Stack) -> list[tuple[str, int]]:
    """What was begun: the number of the attempt and the process, in order."""
    lines = [line.split() for line in stack.trace.read_text().splitlines()]
    return [(number, int(pid)) for what, _, number, pid in lines if what == "begin"]


def test_a_worker_that_stands_still_for_half_a_minute_fails_no_event_and_disturbs_no_successor(
    two_workers: Stack,
) -> None:
    trigger_id = _working(two_workers, seconds=4)
    event_id = two_workers.fire(trigger_id, {})
    first = pid_of(two_workers.until_attempt(event_id))

    with _frozen(first):
        time.sleep(30)
        event = two_workers.until_ended(event_id, 60)
    time.sleep(10)  # what it does when it goes on

    attempts = event["runs"][0]["invocations"][0]["attempts"]
    assert event["status"] == "SUCCEEDED"
    assert [(a["phase"], a["lost"]) for a in attempts] == [("TIMED_OUT", True), ("SUCCEEDED", False)]
    assert _calls(two_workers) == [("1", first), ("2", pid_of(attempts[1]))]
    assert two_workers.event(event_id)["runs"] == event["runs"], "a late result changed the record"
    assert first in two_workers.dev.ready["pids"]["worker"], "it had to be started again"
    os.kill(first, 0)


def test_while_postgres_stands_still_for_a_minute_the_one_attempt_a_step_has_is_not_used_up(stack: Stack) -> None:
    pause = {"name": "pause", "kind": "delay", "for": "PT2S"}
    trigger_id = _working(stack, pause, seconds=0)
    event_id = stack.fire(trigger_id, {})
    deadline = time.monotonic() + 20
    while stack.event(event_id)["runs"][0]["invocations"][0]["status"] != "WAITING":
        assert time.monotonic() < deadline
        time.sleep(0.05)

    with _frozen(stack.dev.ready["pids"]["postgres"]):
        time.sleep(60)

    event = stack.until_ended(event_id, 90)
    assert event["status"] == "SUCCEEDED"
    (attempt,) = [a for a in event["runs"][0]["invocations"][1]["attempts"] if not a["lost"]]
    assert attempt["phase"] == "SUCCEEDED"

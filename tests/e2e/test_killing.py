import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import Stack

TEMPORAL = Path(sys.executable).with_name("temporal")


def pid_of(attempt: dict[str, Any]) -> int:
    return int(attempt["worker"].partition("@")[0])


def test_event_whose_worker_is_killed_inside_an_action_ends_on_another_worker(stack: Stack) -> None:
    trigger_id = stack.sleeping_pipeline("killed-worker", seconds=2)
    event_id = stack.fire(trigger_id, {"note": "killed"})
    victim = pid_of(stack.until_attempt(event_id))

    os.kill(victim, signal.SIGKILL)

    event = stack.until_ended(event_id, 30)
    attempts = event["runs"][0]["invocations"][0]["attempts"]
    assert event["status"] == "SUCCEEDED"
    assert [(a["number"], a["phase"], a["lost"]) for a in attempts] == [(1, "TIMED_OUT", True), (2, "SUCCEEDED", False)]
    assert pid_of(attempts[1]) != victim
    stack.assert_every_start_has_one_ending(event_id)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("verb", ["terminate", "delete"])
def test_event_whose_workflow_is_taken_away_ends_failed_with_the_reason(stack: Stack, verb: str) -> None:
    trigger_id = stack.sleeping_pipeline(f"workflow-{verb}", seconds=110)
    event_id = stack.fire(trigger_id, {"note": verb})
    stack.until_attempt(event_id)

    begun = time.monotonic()
    done = subprocess.run(
        [TEMPORAL, "workflow", verb, "--address", stack.ready["temporalAddress"], "-w", f"event:{event_id}"],
        check=False,
        input="y\n",  # delete asks
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    event = stack.until_ended(event_id, 120)
    assert time.monotonic() - begun < 120
    assert (event["status"], event["closedBy"]) == ("FAILED", "closer")
    invocation = event["runs"][0]["invocations"][0]
    assert "workflow" in invocation["attempts"][0]["error"]["message"]
    stack.assert_every_start_has_one_ending(event_id)


def test_delivery_while_temporal_hangs_is_accepted_and_runs_afterwards(stack: Stack) -> None:
    trigger_id = stack.sleeping_pipeline("temporal-away", seconds=0)
    temporal = stack.ready["pids"]["temporal"]

    os.kill(temporal, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        event_id = stack.fire(trigger_id, {"note": "away"})
        seconds = time.monotonic() - begun
        status = stack.event(event_id)["status"]
        history = stack.get(f"/admin/events/{event_id}/history")["items"]
    finally:
        os.kill(temporal, signal.SIGCONT)

    assert seconds < 2
    assert status == "PENDING"
    assert history == []
    assert stack.until_ended(event_id, 30)["status"] == "SUCCEEDED"
    lines = [line for line in stack.trace.read_text().splitlines() if line.startswith(invocation_id(stack, event_id))]
    assert len(lines) == 1


def invocation_id(stack: Stack, event_id: str) -> str:
    identifier: str = stack.event(event_id)["runs"][0]["invocations"][0]["id"]
    return identifier

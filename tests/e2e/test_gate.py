"""The gate of a whole stack whose parts are killed."""

import os
import random
import signal
import time
from contextlib import suppress
from itertools import pairwise
from typing import Any

import httpx2
import pytest

from tests.e2e.stack import FINAL, Stack

_EVENTS = 20


def open_events(stack: Stack, trigger_id: str) -> list[dict[str, Any]]:
    """Asked again until the API is back."""
    while True:
        try:
            items = stack.get(f"/admin/triggers/{trigger_id}/events?limit=200")["items"]
        except httpx2.TransportError:
            time.sleep(0.1)
            continue
        return [event for event in items if event["status"] not in FINAL]


@pytest.mark.long
@pytest.mark.timeout(300)
def test_one_event_at_a_time_whatever_is_killed(stack: Stack) -> None:
    """The API opens and starts events, workers close them and let the next in: both die again and again."""
    trigger_id = stack.sleeping_pipeline("one-at-a-time", seconds=1)
    limited = stack.api.patch(f"/admin/triggers/{trigger_id}", json={"maxRunningEvents": 1}, headers={"If-Match": "*"})
    assert limited.status_code == 200, limited.text
    fired = [stack.fire(trigger_id, {"number": number}) for number in range(_EVENTS)]
    chance = random.Random(7)  # noqa: S311 - which process dies, and when

    victims = iter(["worker", "api", "worker", "api", "worker"])
    killed: list[str] = []
    deadline = time.monotonic() + 240
    while left := open_events(stack, trigger_id):
        assert time.monotonic() < deadline, [(event["id"], event["status"], event["gate"]) for event in left]
        let_in = [event for event in left if event["gate"]["verdict"] == "run" or event["gate"]["releasedAt"]]
        assert len(let_in) <= 1
        time.sleep(chance.uniform(0.2, 1.0))
        if (part := next(victims, None)) is not None:
            pids = stack.dev.ready["pids"][part]
            with suppress(ProcessLookupError):  # it is being started again
                os.kill(chance.choice(pids) if isinstance(pids, list) else pids, signal.SIGKILL)
                killed.append(part)

    events = [stack.event(event_id) for event_id in fired]
    assert {event["status"] for event in events} == {"SUCCEEDED"}
    assert set(killed) == {"api", "worker"}, killed
    begun = [event["runs"][0]["invocations"][0]["attempts"][0]["startedAt"] for event in events]
    assert begun == sorted(begun), "they did not start in the order they came"
    for earlier, later in pairwise(events):
        assert later["runs"][0]["invocations"][0]["attempts"][0]["startedAt"] >= earlier["closedAt"]

"""Cancelling, running again and trying out, from outside; a file that is none of the product's counts the calls."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import ROOT, Stack

_CANCELLED_WITHIN = 8.0
"""Seconds: two heartbeats of two seconds, and what the machine takes on top while it does other things."""


class Bench:
    """Definitions around one file of calls."""

    def __init__(self, stack: Stack, name: str, folder: Path) -> None:
        self.stack, self.name = stack, name
        self.file, self.mended = folder / "calls", folder / "mended"
        self.file.touch()
        self.trigger = stack.github_trigger(name)

    def action(self, key: str) -> str:
        capability = {"plugin": "acme-ledger", "key": key}
        config = {"file": str(self.file), "mended": str(self.mended)}
        action = self.stack.create("actions", name=f"{self.name} {key}", capability=capability, config=config)
        identifier: str = action["id"]
        return identifier

    def pipeline(self, number: int, steps: Sequence[dict[str, Any]]) -> None:
        triggers = [{"triggerId": self.trigger}]
        self.stack.create("pipelines", name=f"{self.name} {number}", triggers=triggers, steps=steps)

    def calls(self) -> Counter[str]:
        """Lines of the file without the event's id."""
        return Counter(line.rpartition(" ")[0] for line in self.file.read_text(encoding="utf-8").splitlines())

    def until_called(self, line: str) -> None:
        deadline = time.monotonic() + 20
        while not self.calls()[line]:
            assert time.monotonic() < deadline, self.calls()
            time.sleep(0.05)

    def post(self, path: str, body: Any = None) -> dict[str, Any]:
        answer = self.stack.api.post(path, json=body)
        assert answer.status_code == 202, answer.text
        document: dict[str, Any] = answer.json()
        return document


@pytest.fixture
def bench(stack: Stack, tmp_path: Path, request: pytest.FixtureRequest) -> Bench:
    return Bench(stack, request.function.__name__, tmp_path)


def test_a_running_action_is_cancelled_within_two_heartbeats_and_cleans_up(bench: Bench) -> None:
    bench.pipeline(0, [{"name": "hang", "actionId": bench.action("hang")}])
    event_id = bench.stack.fire(bench.trigger, {"note": "cancel"})
    bench.until_called("called hang")

    begun = time.monotonic()
    bench.post(f"/admin/events/{event_id}/cancel")
    event = bench.stack.until_ended(event_id, 30)

    assert time.monotonic() - begun < _CANCELLED_WITHIN
    assert event["status"] == "CANCELLED"
    assert bench.calls() == {"called hang": 1, "cleaned hang": 1}
    bench.stack.assert_every_start_has_one_ending(event_id)


def test_a_run_of_a_divided_event_is_cancelled_alone(bench: Bench) -> None:
    note = bench.action("note")
    bench.pipeline(0, [{"name": "hang", "actionId": bench.action("hang")}])
    for number in range(1, 6):
        bench.pipeline(number, [{"name": "note", "actionId": note}])
    event_id = bench.stack.fire(bench.trigger, {"note": "cancel a run"})
    bench.until_called("called hang")
    runs = {run["pipelineName"]: run["id"] for run in bench.stack.event(event_id)["runs"]}

    begun = time.monotonic()
    bench.post(f"/admin/events/{event_id}/runs/{runs[f'{bench.name} 0']}/cancel")
    event = bench.stack.until_ended(event_id, 30)

    assert time.monotonic() - begun < _CANCELLED_WITHIN
    assert Counter(run["status"] for run in event["runs"]) == {"CANCELLED": 1, "SUCCEEDED": 5}
    assert bench.calls() == {"called hang": 1, "cleaned hang": 1, "called note": 5}


def test_a_step_that_waits_is_cancelled(bench: Bench) -> None:
    bench.pipeline(0, [{"name": "pause", "kind": "delay", "for": "P30D"}])
    event_id = bench.stack.fire(bench.trigger, {"note": "cancel a wait"})
    deadline = time.monotonic() + 15
    while bench.stack.event(event_id)["runs"][0]["invocations"][0]["status"] != "WAITING":
        assert time.monotonic() < deadline
        time.sleep(0.05)

    cancelled = _latchflow(bench.stack, "events", "cancel", event_id)

    assert (cancelled.returncode, cancelled.stderr) == (0, "")
    event = bench.stack.until_ended(event_id, 20)
    assert (event["status"], event["runs"][0]["invocations"][0]["status"]) == ("CANCELLED", "CANCELLED")


def test_a_wish_made_while_temporal_hangs_is_carried_out_when_it_is_back(bench: Bench) -> None:
    bench.pipeline(0, [{"name": "hang", "actionId": bench.action("hang")}])
    event_id = bench.stack.fire(bench.trigger, {"note": "cancel while away"})
    bench.until_called("called hang")
    temporal = bench.stack.ready["pids"]["temporal"]

    os.kill(temporal, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        bench.post(f"/admin/events/{event_id}/cancel")
        seconds = time.monotonic() - begun
        time.sleep(4)  # longer than a call of Temporal may take
    finally:
        os.kill(temporal, signal.SIGCONT)

    assert seconds < 2
    assert bench.stack.until_ended(event_id, 40)["status"] == "CANCELLED"
    assert bench.calls()["cleaned hang"] >= 1


def test_a_rerun_by_the_command_line_calls_no_kept_step_again(bench: Bench) -> None:
    steps: list[dict[str, Any]] = [
        {"name": "first", "actionId": bench.action("note")},
        {"name": "second", "actionId": bench.action("broken"), "input": {"n": "steps.first.output.payload.body.n"}},
    ]
    bench.pipeline(0, [{**step, "sortOrder": place} for place, step in enumerate(steps)])
    event_id = bench.stack.fire(bench.trigger, {"n": 7})
    assert bench.stack.until_ended(event_id, 30)["status"] == "FAILED"
    bench.mended.touch()

    shown = _latchflow(bench.stack, "events", "show", event_id)
    opened = _latchflow(bench.stack, "events", "rerun", event_id, "--from", "failed").stdout.strip()
    watched = _latchflow(bench.stack, "events", "watch", opened)

    assert "not mended yet" in shown.stdout
    assert watched.returncode == 0
    assert bench.calls() == {"called first": 1, "called second": 2}
    event = bench.stack.event(opened)
    assert (event["status"], event["rerunOf"]) == ("SUCCEEDED", event_id)
    first, second = event["runs"][0]["invocations"]
    assert (first["status"], first["attempts"]) == ("SUCCEEDED", [])
    assert second["output"] == {"payload": {"n": 7}}
    listed = json.loads(_latchflow(bench.stack, "events", "list", "--trigger", bench.name, "--json").stdout)
    assert [item["id"] for item in listed] == [opened, event_id]


def test_an_action_is_tried_out(bench: Bench) -> None:
    action_id = bench.action("note")

    event_id = bench.post(f"/admin/actions/{action_id}/test-run", {"payload": {"n": 9}})["eventId"]

    event = bench.stack.until_ended(event_id, 20)
    assert (event["status"], event["triggerId"], event["metadata"]) == ("SUCCEEDED", None, {"testRun": True})
    assert event["runs"][0]["invocations"][0]["output"] == {"payload": {"n": 9}}
    assert bench.calls().total() == 1


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_bulk_rerun_with_workers_killed_in_between_makes_each_event_exactly_once(bench: Bench) -> None:
    steps = [
        {"name": "first", "actionId": bench.action("note")},
        {"name": "second", "actionId": bench.action("broken")},
    ]
    bench.pipeline(0, [{**step, "sortOrder": place} for place, step in enumerate(steps)])
    with ThreadPoolExecutor(4) as pool:
        old = list(pool.map(lambda n: bench.stack.fire(bench.trigger, {"n": n}), range(200)))
    for event_id in old:
        assert bench.stack.until_ended(event_id, 60)["status"] == "FAILED"
    bench.mended.touch()

    wanted = {"triggerId": bench.trigger, "status": "FAILED"}
    body = {"operation": "rerun", "filter": wanted, "from": "failed", "ratePerSecond": 20}
    begun = time.monotonic()
    path = f"/admin/bulk/{bench.post('/admin/events/bulk', body)['id']}"
    _until(lambda: bench.stack.get(path)["done"] >= 30, 30)
    for process in bench.stack.get("/system/plugin-runtime/health")["processes"]:
        if process["role"] == "worker":
            os.kill(process["pid"], signal.SIGKILL)
    at_the_kill = bench.stack.get(path)["done"]
    _until(lambda: bench.stack.get(path)["finishedAt"] is not None, 120)
    seconds = time.monotonic() - begun

    document = bench.stack.get(path)
    assert at_the_kill < 200
    assert (document["status"], document["total"], document["done"], document["failed"]) == ("SUCCEEDED", 200, 200, 0)
    assert seconds > 199 / 20
    new = [event for event in _events(bench) if event["rerunOf"]]
    assert sorted(event["rerunOf"] for event in new) == sorted(old)
    for event in new:
        assert bench.stack.until_ended(event["id"], 120)["status"] == "SUCCEEDED"
    assert bench.calls()["called first"] == 200  # those of the old events


def _events(bench: Bench) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = bench.stack.get(f"/admin/events?triggerId={bench.trigger}&limit=200{cursor}")
        found += page["items"]
        if page["nextCursor"] is None:
            return found
        cursor = f"&cursor={page['nextCursor']}"


def _until(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _latchflow(stack: Stack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "latchflow.cli", *arguments],
        cwd=ROOT,
        env={
            "PATH": os.environ["PATH"],
            "LATCHFLOW_API_URL": stack.ready["apiUrl"],
            "LATCHFLOW_TOKEN": stack.ready["adminToken"],
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

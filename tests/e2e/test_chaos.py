"""A mixed load while parts of the stack are killed at random points.

What must hold is computed from three sources that know nothing of each other: the trace that the actions leave, the
product's record in PostgreSQL, and Temporal's own histories.
"""

import asyncio
import os
import random
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg.rows import dict_row
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from tests.e2e.stack import FINAL, Stack

_WORKERS = 4
_SPARED_SECONDS = 16.0
"""Between two kills of one part: `latchflow dev` gives up on a part that dies five times within a minute."""

_ENDINGS = {"SUCCEEDED", "RETRYING", "WAITING", "FAILED", "FAILED_PERMANENT", "TIMED_OUT", "CANCELLED"}


@pytest.fixture
def chaotic(tmp_path: Path) -> Iterator[Stack]:
    running = Stack(tmp_path, "--processes", str(_WORKERS), LATCHFLOW_WORKFLOW_SANDBOX="false")
    yield running
    running.close()


def _trigger(stack: Stack) -> str:
    """A trigger with three pipelines: parallel groups, a list, failures, waits."""
    trigger_id = stack.github_trigger("chaos")
    actions = {}
    for key in ("work", "stumble", "wait"):
        actions[key] = stack.create(
            "actions",
            name=key,
            capability={"plugin": "acme-chaos", "key": key},
            config={"trace": str(stack.trace), "seconds": 1.5},
            isEnabled=True,
            retryPolicy={"maxAttempts": 5, "initialIntervalSeconds": 0.2},
        )["id"]
    pipelines: dict[str, list[dict[str, Any]]] = {
        "parallel": [
            {"name": "a", "actionId": actions["work"], "sortOrder": 1},
            {"name": "b", "actionId": actions["stumble"], "sortOrder": 1, "onFailure": "continue"},
            {"name": "c", "actionId": actions["work"], "sortOrder": 2},
        ],
        "list": [{"name": "each", "actionId": actions["work"], "forEach": "[1, 2, 3, 4]", "maxParallel": 2}],
        "waits": [
            {"name": "wait", "actionId": actions["wait"], "sortOrder": 1},
            {"name": "pause", "kind": "delay", "for": "PT1S", "sortOrder": 2},
        ],
    }
    for name, steps in pipelines.items():
        stack.create("pipelines", name=name, isEnabled=True, triggers=[{"triggerId": trigger_id}], steps=steps)
    return trigger_id


class _Load(threading.Thread):
    """Delivers at a steady rate; keeps the events that were acknowledged."""

    def __init__(self, stack: Stack, trigger_id: str, *, every_seconds: float) -> None:
        super().__init__(daemon=True)
        self.acknowledged: list[str] = []
        self.refused = 0
        self.is_over = threading.Event()
        self._stack, self._trigger_id, self._every_seconds = stack, trigger_id, every_seconds

    def run(self) -> None:
        number = 0
        while not self.is_over.wait(self._every_seconds):
            number += 1
            try:
                answer = self._stack.deliver(self._trigger_id, {"number": number})
            except httpx2.TransportError:
                self.refused += 1  # the API is away, or was killed before it answered: nothing was promised
                continue
            if answer.status_code == 202:
                self.acknowledged.append(answer.json()["eventId"])
            else:
                self.refused += 1


def _kill_at_random(stack: Stack, *, seconds: float, chance: random.Random, others: Sequence[str]) -> Counter[str]:
    """Kill workers mostly, and now and then another part."""
    killed: Counter[str] = Counter()
    last: dict[str, float] = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(chance.uniform(0.5, 2.0))
        pids = stack.dev.ready["pids"]
        parts = {f"worker {n}": pid for n, pid in enumerate(pids["worker"])}
        if others and chance.random() < 0.3:
            parts = {name: pids[name] for name in others}
        able = [name for name in parts if time.monotonic() - last.get(name, 0.0) > _SPARED_SECONDS]
        if not able:
            continue
        name = chance.choice(able)
        with suppress(ProcessLookupError, TypeError):  # it is being started again just now
            os.kill(parts[name], signal.SIGKILL)
            killed[name.partition(" ")[0]] += 1
        last[name] = time.monotonic()
    return killed


def _until_all_ended(stack: Stack, events: list[str], seconds: float) -> dict[str, str]:
    deadline = time.monotonic() + seconds
    statuses: dict[str, str] = {}
    while left := [event_id for event_id in events if statuses.get(event_id) not in FINAL]:
        if time.monotonic() > deadline:
            message = f"{len(left)} of {len(events)} events are open, for example {stack.event(left[0])}"
            raise AssertionError(message)
        for event_id in left:
            with suppress(httpx2.TransportError):
                answer = stack.api.get(f"/admin/events/{event_id}")
                assert answer.status_code in (200, 503), answer.text
                if answer.status_code == 200:
                    statuses[event_id] = answer.json()["status"]
        time.sleep(0.5)
    return statuses


def _rows(stack: Stack, statement: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while True:
        try:
            with psycopg.connect(stack.dev.ready["databaseUrl"], row_factory=dict_row) as connection:
                return connection.execute(statement.encode()).fetchall()
        except psycopg.OperationalError:  # it was killed last, and is coming back
            assert time.monotonic() < deadline
            time.sleep(0.5)


def _check_record(stack: Stack, events: list[str]) -> list[dict[str, Any]]:
    """The product's record agrees with itself; returns the invocations."""
    open_events = _rows(stack, "SELECT id FROM events WHERE closed_at IS NULL")
    assert open_events == []
    invocations = _rows(stack, "SELECT id, event_id, step_name, kind, item_index, status, ended_at FROM invocations")
    assert all(row["ended_at"] is not None for row in invocations)
    by_event = Counter(str(row["event_id"]) for row in invocations)
    assert {by_event[event_id] for event_id in events} == {3 + 1 + 4 + 2}, "an event owes ten invocations"
    entries = _rows(
        stack,
        "SELECT invocation_id, attempt, phase FROM audit_entries WHERE kind = 'action' AND attempt IS NOT NULL "
        "AND phase <> 'LATE'",
    )
    started = Counter((e["invocation_id"], e["attempt"]) for e in entries if e["phase"] == "STARTED")
    ended = Counter((e["invocation_id"], e["attempt"]) for e in entries if e["phase"] in _ENDINGS)
    assert started == ended, "a STARTED without one ending"
    assert set(started.values()) <= {1}
    return invocations


def _check_trace(stack: Stack) -> list[list[str]]:
    """No action ran again after its recorded success, and nothing ran that is not on record."""
    lines = [line.split() for line in stack.trace.read_text().splitlines()]
    attempts = _rows(stack, "SELECT invocation_id, number, phase FROM attempts")
    known = {(str(row["invocation_id"]), row["number"]) for row in attempts}
    done = {str(row["invocation_id"]): row["number"] for row in attempts if row["phase"] == "SUCCEEDED"}
    begun = [(line[1], int(line[2])) for line in lines if line[0] == "begin"]
    assert set(begun) <= known
    assert set(Counter(begun).values()) <= {1}, "one attempt called its action twice"
    assert not [(key, number) for key, number in begun if number > done.get(key, number)], "ran after its success"
    return lines


async def _completed_activities(stack: Stack) -> set[str]:
    """The invocations whose action Temporal saw completed, by the activity ids in its histories."""
    ready = stack.dev.ready
    client = await Client.connect(ready["temporalAddress"], namespace=ready["temporalNamespace"])
    found = set()
    async for workflow in client.list_workflows():
        scheduled = {}
        handle = client.get_workflow_handle(workflow.id, run_id=workflow.run_id)
        async for event in handle.fetch_history_events():
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED:
                scheduled[event.event_id] = event.activity_task_scheduled_event_attributes.activity_id
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_COMPLETED:
                source = event.activity_task_completed_event_attributes.scheduled_event_id
                found.add(scheduled[source].partition(":")[0])
    return found


def _chaos(stack: Stack, *, seconds: float, every_seconds: float, others: Sequence[str] = ()) -> tuple[int, int]:
    """Load, kill, wait, check; how many events there were, and how many attempts a kill landed in."""
    seed = random.randrange(1 << 32)  # noqa: S311 - no secret
    load = _Load(stack, _trigger(stack), every_seconds=every_seconds)
    load.start()
    chance = random.Random(seed)  # noqa: S311 - no secret
    killed = _kill_at_random(stack, seconds=seconds, chance=chance, others=others)
    load.is_over.set()
    load.join()
    statuses = _until_all_ended(stack, load.acknowledged, 240)

    invocations = _check_record(stack, load.acknowledged)
    lines = _check_trace(stack)
    succeeded = {str(row["id"]) for row in invocations if row["status"] == "SUCCEEDED" and row["kind"] == "action"}
    parents = {str(row["id"]) for row in invocations if row["step_name"] == "each" and row["item_index"] is None}
    assert succeeded - parents <= asyncio.run(_completed_activities(stack)), "Temporal knows nothing of a success"
    assert Counter(statuses.values()).keys() <= {"SUCCEEDED", "PARTIAL_FAILURE"}, Counter(statuses.values())
    lost = _rows(stack, "SELECT count(*) AS number FROM attempts WHERE is_lost")[0]["number"]
    figures = {
        "seed": seed,
        "events": dict(Counter(statuses.values())),
        "refused": load.refused,
        "killed": dict(killed),
        "attempts that lost their worker": lost,
        "calls of actions": sum(line[0] == "begin" for line in lines),
    }
    sys.stdout.write(f"{figures}\n")
    return len(statuses), lost


@pytest.mark.long
@pytest.mark.timeout(600)
def test_two_minutes_of_chaos_lose_and_double_nothing(chaotic: Stack) -> None:
    others = ("temporal", "postgres", "api")
    events, lost = _chaos(chaotic, seconds=120, every_seconds=0.4, others=others)

    assert events >= 50
    assert lost >= 30, "too few kills landed inside an attempt: the run proves nothing"

"""Events that are large in every direction, on the real stack."""

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from temporalio.client import Client

from tests.e2e.stack import Stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]

_MOST_GROWTH = 150 * 1024 * 1024
_MOST_EVENTS, _MOST_BYTES = 51_200, 50 * 1024 * 1024
"""Of one history; Temporal ends a workflow that has more."""


@pytest.fixture
def big(tmp_path: Path) -> Iterator[Stack]:
    running = Stack(tmp_path, LATCHFLOW_WORKFLOW_SANDBOX="false")
    yield running
    running.close()


class _Memory(threading.Thread):
    """The most that the worker held beyond what it held at first."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process = psutil.Process(pid)
        self._first = self._process.memory_info().rss
        self.growth = 0
        self.is_over = threading.Event()

    def run(self) -> None:
        while not self.is_over.wait(0.1):
            self.growth = max(self.growth, self._process.memory_info().rss - self._first)


def _run(
    stack: Stack,
    name: str,
    steps: list[dict[str, Any]],
    body: dict[str, Any],
    seconds: float,
    warming: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Fire once to warm the worker up, then once more under watch."""
    trigger_id = stack.github_trigger(name)
    stack.create("pipelines", name=name, isEnabled=True, triggers=[{"triggerId": trigger_id}], steps=steps)
    assert stack.until_ended(stack.fire(trigger_id, warming or body), seconds)["status"] == "SUCCEEDED"
    memory = _Memory(stack.dev.ready["pids"]["worker"])
    memory.start()
    begun = time.monotonic()
    event_id = stack.fire(trigger_id, {**body, "again": True})
    event = stack.until_ended(event_id, seconds)
    took = time.monotonic() - begun
    memory.is_over.set()
    memory.join()

    assert event["status"] == "SUCCEEDED"
    assert memory.growth < _MOST_GROWTH
    events, size = asyncio.run(_largest_history(stack))
    assert events < _MOST_EVENTS
    assert size < _MOST_BYTES
    grown = f"worker grew by {memory.growth / 2**20:.0f} MiB"
    sys.stdout.write(f"\n{name}: {took:.1f} s, {grown}, largest history {events} events, {size} bytes\n")
    return event


async def _largest_history(stack: Stack) -> tuple[int, int]:
    ready = stack.dev.ready
    client = await Client.connect(ready["temporalAddress"], namespace=ready["temporalNamespace"])
    lengths, sizes = [0], [0]
    async for workflow in client.list_workflows():
        lengths.append(workflow.history_length)
        handle = client.get_workflow_handle(workflow.id, run_id=workflow.run_id)
        description = await handle.describe()
        sizes.append(description.raw_description.workflow_execution_info.history_size_bytes)
    return max(lengths), max(sizes)


def _action(stack: Stack, key: str, **config: Any) -> str:
    capability = {"plugin": "acme-chaos", "key": key}
    config = {"trace": str(stack.trace), "seconds": 0, **config}
    identifier: str = stack.create("actions", name=key, capability=capability, config=config, isEnabled=True)["id"]
    return identifier


def test_twenty_parallel_steps_on_the_largest_context(big: Stack) -> None:
    action = _action(big, "work")
    steps = [{"name": f"s{n}", "actionId": action, "sortOrder": 1} for n in range(20)]

    _run(big, "wide", steps, {"text": "x" * (500 * 1024)}, 60)


def test_two_hundred_steps_with_large_outputs(big: Stack) -> None:
    action = _action(big, "swell", size=250 * 1024)
    steps = [{"name": f"s{n}", "actionId": action, "sortOrder": n} for n in range(200)]

    event = _run(big, "long", steps, {}, 180)

    assert len(event["runs"][0]["invocations"]) == 200


def test_a_list_of_five_thousand_items(big: Stack) -> None:
    action = _action(big, "work")
    step = {"name": "each", "actionId": action, "forEach": "event.context.body.list", "input": {"item": "item"}}

    event = _run(big, "list", [step], {"list": list(range(5000))}, 400, {"list": list(range(200))})

    assert len(event["runs"][0]["invocations"]) == 5001

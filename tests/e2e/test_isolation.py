"""Careless plugins, and plugins with workers of their own, in the whole product."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import Stack

_MISBEHAVING = "acme-misbehaving"
_QUICK = {"maxAttempts": 3, "initialIntervalSeconds": 0.2, "backoffCoefficient": 1.0}


def pipeline(stack: Stack, name: str, key: str, *, seconds: float, timeout_seconds: int = 115) -> str:
    """A webhook, and behind it one step with a misbehaving action; returns the trigger's id."""
    trigger_id = stack.github_trigger(name)
    action = stack.create(
        "actions",
        name=name,
        capability={"plugin": _MISBEHAVING, "key": key},
        config={"seconds": seconds},
        retryPolicy=_QUICK,
        timeoutSeconds=timeout_seconds,
    )
    step = {"name": key, "actionId": action["id"], "sortOrder": 1}
    stack.create("pipelines", name=name, isEnabled=True, triggers=[{"triggerId": trigger_id}], steps=[step])
    return trigger_id


def invocation_of(event: dict[str, Any]) -> dict[str, Any]:
    invocation: dict[str, Any] = event["runs"][0]["invocations"][0]
    return invocation


def until(condition: Callable[[], bool], what: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def health(stack: Stack) -> dict[str, Any]:
    return stack.get("/system/plugin-runtime/health")


@pytest.fixture
def lone(tmp_path: Path) -> Iterator[Callable[..., Stack]]:
    """Stacks with one worker and with settings of the test's own."""
    stacks: list[Stack] = []

    def start(**env: str) -> Stack:
        stacks.append(Stack(tmp_path, **env))
        return stacks[-1]

    yield start
    for stack in stacks:
        stack.close()


def test_an_action_that_waits_shows_so_and_goes_on_by_itself(stack: Stack) -> None:
    event_id = stack.fire(pipeline(stack, "waiting", "wait", seconds=3), {})
    until(lambda: invocation_of(stack.event(event_id))["status"] == "WAITING", "the step waits")
    waiting = invocation_of(stack.event(event_id))

    ended = invocation_of(stack.until_ended(event_id, 30))

    assert (waiting["waitingFor"], waiting["nextAttemptAt"] is not None) == ("time", True)
    assert ended["output"] == {"began": 1, "resumed": 2}
    assert [attempt["phase"] for attempt in ended["attempts"]] == ["WAITING", "SUCCEEDED"]
    assert (ended["waitingFor"], ended["nextAttemptAt"]) == (None, None)
    stack.assert_every_start_has_one_ending(event_id)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_while_a_plugin_blocks_for_a_minute_twenty_attempts_of_another_succeed_at_the_first_try(
    lone: Callable[..., Stack],
) -> None:
    stack = lone()
    blocking = stack.fire(pipeline(stack, "blocking", "block", seconds=60), {})
    stack.until_attempt(blocking)
    other = stack.sleeping_pipeline("other", seconds=0.5)
    events = []
    for number in range(20):
        events.append(stack.fire(other, {"number": number}))
        time.sleep(0.7)  # spread over the time in which it blocks and its loop is replaced

    for event_id in events:
        event = stack.until_ended(event_id, 30)
        assert event["status"] == "SUCCEEDED"
        assert [attempt["number"] for attempt in invocation_of(event)["attempts"]] == [1]
    blocked = invocation_of(stack.until_ended(blocking, 60))
    assert blocked["output"] == {"attempt": 2}
    error = blocked["attempts"][0]["error"]
    assert error["type"] == "PluginBlocked"
    assert "misbehaving" in error["message"]
    assert "__init__.py:16, in block" in error["message"]
    until(lambda: any("__init__.py:16" in problem for problem in health(stack)["problems"]), "health names the place")
    (worker,) = [process for process in health(stack)["processes"] if process["role"] == "worker"]
    assert (worker["replacedLoops"], worker["replaced"][0]["plugin"]) == (1, _MISBEHAVING)


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_worker_with_too_many_threads_left_over_ends_and_is_started_again(lone: Callable[..., Stack]) -> None:
    stack = lone(PLUGIN_ACTION_CONCURRENCY="4")
    slow = stack.sleeping_pipeline("slow", seconds=30)
    trigger_id = pipeline(stack, "holding", "hold", seconds=600, timeout_seconds=5)
    before = stack.ready["pids"]["worker"]

    first = stack.fire(trigger_id, {"number": 1})
    until(lambda: any("on though nobody waits" in problem for problem in health(stack)["problems"]), "health names it")
    (worker,) = [process for process in health(stack)["processes"] if process["role"] == "worker"]
    assert worker["leftover"][0]["plugin"] == _MISBEHAVING
    assert worker["leftover"][0]["capability"] == "hold"
    other = stack.fire(slow, {"number": 3})
    stack.until_attempt(other)
    second = stack.fire(trigger_id, {"number": 2})

    until(lambda: stack.dev.ready["pids"]["worker"] != before, "the worker has another process", 60)
    # It had far more to do than the few seconds after a signal, and was let end it.
    attempts = invocation_of(stack.until_ended(other, 60))["attempts"]
    assert [attempt["phase"] for attempt in attempts] == ["SUCCEEDED"]
    for event_id in (first, second):
        ended = invocation_of(stack.until_ended(event_id, 60))
        assert ended["status"] == "SUCCEEDED"
    until(lambda: health(stack)["status"] == "ok", "nothing is left over")
    assert "exited with status 75" in stack.dev.output


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_dedicated_plugin_runs_in_its_own_worker_and_waits_while_that_is_away(lone: Callable[..., Stack]) -> None:
    stack = lone(LATCHFLOW_DEDICATED_PLUGINS="acme-sleeper")
    pids = stack.ready["pids"]
    dedicated = pids["dedicatedWorkers"]["acme-sleeper"]
    trigger_id = stack.sleeping_pipeline("dedicated", seconds=0.1)

    attempts = invocation_of(stack.until_ended(stack.fire(trigger_id, {"number": 1}), 30))["attempts"]

    assert [attempt["worker"].partition("@")[0] for attempt in attempts] == [str(dedicated)]
    (listed,) = [process for process in health(stack)["processes"] if process["dedicatedPlugin"]]
    assert (listed["pid"], listed["dedicatedPlugin"]) == (dedicated, "acme-sleeper")
    os.kill(dedicated, signal.SIGSTOP)
    until(lambda: any("acme-sleeper reports" in problem for problem in health(stack)["problems"]), "health says so")
    os.kill(dedicated, signal.SIGKILL)
    event_id = stack.fire(trigger_id, {"number": 2})
    assert stack.until_ended(event_id, 60)["status"] == "SUCCEEDED"


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_dedicated_plugin_that_is_enabled_later_runs_in_the_worker_that_waited_for_it(
    lone: Callable[..., Stack],
) -> None:
    stack = lone(LATCHFLOW_DEDICATED_PLUGINS="acme-sleeper", PLUGIN_AUTO_ENABLE="false")
    dedicated = stack.ready["pids"]["dedicatedWorkers"]["acme-sleeper"]
    (plugin,) = [plugin for plugin in stack.get("/admin/plugins")["items"] if plugin["name"] == "acme-sleeper"]
    assert plugin["status"] == "DISCOVERED"
    answer = stack.api.patch(f"/admin/plugins/{plugin['id']}", json={"status": "ENABLED"})
    assert answer.status_code == 200, answer.text

    event_id = stack.fire(stack.sleeping_pipeline("later", seconds=0.1), {"number": 1})

    attempts = invocation_of(stack.until_ended(event_id, 60))["attempts"]
    assert [attempt["worker"].partition("@")[0] for attempt in attempts] == [str(dedicated)]

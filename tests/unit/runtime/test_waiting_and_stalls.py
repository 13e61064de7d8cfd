"""Actions that answer Pending, and actions that report no progress."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from latchflow.runtime.invoking.answers import MAX_STATE_BYTES
from latchflow.runtime.invoking.invoker import Result, Resumption, Success, Waiting, invoke
from latchflow.sdk import ActionCall, Pending, Plugin
from tests.support.registries import NAME, registry_of
from tests.unit.runtime.invoking import call_of, failed

_MINUTE = timedelta(minutes=1)


async def invoked(
    action: Any, *, resume: Any = None, resumption: Resumption | None = None, stall: float | None = None, **call: Any
) -> Result:
    plugin = Plugin()
    plugin.action("do", display_name="Do", config_schema={}, resume=resume, stall_timeout_seconds=stall)(action)
    registry = registry_of(plugin)
    try:
        details = replace(call_of({}, call.pop("timeout_seconds", 5)), resumption=resumption)
        return await invoke(registry.actions[NAME, "do"], details)
    finally:
        registry.close()


def answering(answer: object) -> Callable[[ActionCall[Any]], Any]:
    async def action(call: ActionCall[Any]) -> object:
        return answer

    return action


async def resuming(call: ActionCall[Any], state: Any) -> Any:
    return {"resumed": state}


async def test_pending_is_a_wait_with_its_state_as_json_gives_it_back() -> None:
    deadline = datetime.now(UTC) + _MINUTE

    pending = Pending(check_after=_MINUTE, state={1: ("a",)}, deadline=deadline)
    result = await invoked(answering(pending), resume=resuming)

    assert result == Waiting(check_after=_MINUTE, state={"1": ["a"]}, deadline=deadline)


@pytest.mark.parametrize("kind", ["coroutine", "plain", "awaitable"])
async def test_resume_is_called_with_the_state(kind: str) -> None:
    def plain(call: ActionCall[Any], state: Any) -> Any:
        return {"resumed": state}

    def awaitable(call: ActionCall[Any], state: Any) -> Any:
        return resuming(call, state)

    functions = {"coroutine": resuming, "plain": plain, "awaitable": awaitable}

    result = await invoked(answering(None), resume=functions[kind], resumption=Resumption(state=[7]))

    assert isinstance(result, Success)
    assert result.output == {"resumed": [7]}


@pytest.mark.parametrize(
    ("pending", "error_type", "says"),
    [
        (Pending(check_after=5), "InvalidPending", "give a timedelta"),  # type: ignore[arg-type]
        (Pending(check_after=_MINUTE, deadline=datetime(2030, 1, 1)), "InvalidPending", "with a time zone"),  # noqa: DTZ001
        (Pending(check_after=_MINUTE, state=object()), "StateNotSerialisable", "plain data"),
        (Pending(check_after=_MINUTE, state="x" * MAX_STATE_BYTES), "StateTooLarge", "at most 262144"),
    ],
)
async def test_a_pending_that_cannot_be_kept_fails_for_good_and_says_why(
    pending: Pending, error_type: str, says: str
) -> None:
    failure = failed(await invoked(answering(pending), resume=resuming))

    assert (failure.error_type, failure.is_retryable) == (error_type, False)
    assert says in failure.message


async def test_pending_of_an_action_without_resume_fails_for_good() -> None:
    for resumption in (None, Resumption(state=1)):
        failure = failed(await invoked(answering(Pending(check_after=_MINUTE)), resumption=resumption))

        assert (failure.error_type, failure.is_retryable) == ("NoResume", False)


async def test_an_action_that_reports_no_progress_is_ended_as_stalled() -> None:
    started = time.monotonic()
    failure = failed(await invoked(lambda call: asyncio.sleep(60), stall=1.0))

    assert (failure.error_type, failure.is_timeout, failure.is_retryable) == ("Stalled", True, True)
    assert failure.message == "No progress was reported for 1 s."
    assert 0.9 < time.monotonic() - started < 3


async def test_heartbeats_from_coroutine_or_thread_keep_an_action_from_stalling() -> None:
    async def on_loop(call: ActionCall[Any]) -> str:
        for number in range(5):
            await asyncio.sleep(0.4)
            call.heartbeat(number)
        return "done"

    def in_thread(call: ActionCall[Any]) -> str:
        for number in range(5):
            time.sleep(0.4)
            call.heartbeat(number)
        return "done"

    for result in await asyncio.gather(invoked(on_loop, stall=1.0), invoked(in_thread, stall=1.0)):
        assert isinstance(result, Success)


async def test_the_time_limit_comes_before_a_longer_stall() -> None:
    failure = failed(await invoked(lambda call: asyncio.sleep(60), stall=2.0, timeout_seconds=0.2))

    assert failure.error_type == "TimedOut"


@pytest.mark.parametrize(
    "deadline",
    [
        datetime.max.replace(tzinfo=timezone(timedelta(hours=-5))),
        datetime.min.replace(tzinfo=timezone(timedelta(hours=5))),
        datetime(9999, 12, 31, tzinfo=UTC),
    ],
)
async def test_a_deadline_that_no_store_can_hold_ends_the_action(deadline: datetime) -> None:
    pending = Pending(check_after=_MINUTE, deadline=deadline)

    failure = failed(await invoked(answering(pending), resume=resuming))

    assert (failure.error_type, failure.is_retryable) == ("InvalidPending", False)


async def test_a_deadline_in_another_zone_is_kept_in_utc() -> None:
    deadline = datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=5)))

    result = await invoked(answering(Pending(check_after=_MINUTE, deadline=deadline)), resume=resuming)

    assert isinstance(result, Waiting)
    assert result.deadline == deadline
    assert result.deadline.tzinfo is UTC

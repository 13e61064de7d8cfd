"""Actions that start something outside and come back for it later."""

import asyncio
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.actions import ActionActivities
from latchflow.model import ActionTask, Outcome
from latchflow.names import EXECUTE_ACTION
from latchflow.runtime.lifecycle.registry import Registry
from latchflow.sdk import ActionCall, Pending, PermanentFailure, Plugin, Retry
from latchflow.store import places
from tests.support.execution import Step
from tests.support.registries import registry_of
from tests.workflow.conftest import KeepHistory
from tests.workflow.engine import QUICK, Engine

_SOON = timedelta(milliseconds=150)


class Build:
    """A class action: starts a build, asks for it until it is ready."""

    calls: list[tuple[str, int, Any]] = []  # noqa: RUF012 - what the one test of the moment looks at

    async def execute(self, call: ActionCall[Any]) -> Any:
        self.calls.append(("execute", call.invocation.attempt, None))
        check_after = timedelta(seconds=call.config.get("seconds", 0.15))
        state = {"build": 7, "rounds": 0, "text": "ü\x00"}
        return Pending(check_after=check_after, state=state, deadline=_deadline(call))

    async def resume(self, call: ActionCall[Any], state: Any) -> Any:
        self.calls.append(("resume", call.invocation.attempt, state))
        rounds = state["rounds"] + 1
        if rounds < call.config["rounds"]:
            return Pending(check_after=_SOON, state={**state, "rounds": rounds}, deadline=_deadline(call))
        return {"build": state["build"], "rounds": rounds}


def _deadline(call: ActionCall[Any]) -> datetime | None:
    seconds = call.config.get("deadlineSeconds")
    return datetime.now(UTC) + timedelta(seconds=seconds) if seconds is not None else None


def _registry() -> Registry:
    plugin = Plugin()
    plugin.action("build", display_name="Build", config_schema={})(Build)

    def resume(call: ActionCall[Any], state: Any) -> Any:
        Build.calls.append(("resume", call.invocation.attempt, state))
        if call.config["raises"] and call.invocation.attempt <= 3:
            raise {"retry": Retry(reason="not yet"), "fault": ValueError("no")}[call.config["raises"]]
        if call.config["raises"] is None:
            raise PermanentFailure("the build broke", error_type="Broken")
        return {"attempt": call.invocation.attempt}

    @plugin.action("function", display_name="Function", config_schema={}, resume=resume)
    def function(call: ActionCall[Any]) -> Any:
        Build.calls.append(("execute", call.invocation.attempt, None))
        return Pending(check_after=_SOON, state="kept")

    @plugin.action("endless", display_name="No resume", config_schema={})
    async def endless(call: ActionCall[Any]) -> Any:
        Build.calls.append(("execute", call.invocation.attempt, None))
        return Pending(check_after=_SOON)

    Build.calls = []
    return registry_of(plugin)


async def _run(engine: Engine, step: Step) -> Any:
    registry = _registry()
    async with engine.worker(registry=registry):
        event_id = await engine.fire([step])
        await engine.finish(event_id)
    registry.close()
    return event_id


async def test_an_action_that_waits_is_resumed_with_its_state_and_its_waits_do_not_count(
    engine: Engine, keep_history: KeepHistory
) -> None:
    once = {**QUICK, "max_attempts": 1}
    event_id = await _run(engine, Step(action="build", name="one", config={"rounds": 3}, retry_policy=once))
    await keep_history("waited", event_id)

    assert await engine.deployment.statuses(event_id) == {"one": "SUCCEEDED"}
    assert await engine.deployment.output(event_id, "one") == {"build": 7, "rounds": 3}
    states = [{"build": 7, "rounds": rounds, "text": "ü\x00"} for rounds in range(3)]
    assert Build.calls == [("execute", 1, None), *(("resume", n + 2, state) for n, state in enumerate(states))]
    phases = await engine.deployment.phases(event_id, "one")
    assert phases == ["STARTED", "WAITING"] * 3 + ["STARTED", "SUCCEEDED"]
    (row,) = (await engine.deployment.steps(event_id)).values()
    assert (row["pending_sealed"], row["pending_deadline"]) == (None, None)


async def test_while_an_invocation_waits_it_says_until_when_and_holds_no_worker(engine: Engine) -> None:
    registry = _registry()
    async with engine.worker(registry=registry):
        event_id = await engine.fire([Step(action="build", name="one", config={"rounds": 1})])
        async with asyncio.timeout(10):
            while (await engine.deployment.statuses(event_id)) != {"one": "WAITING"}:
                await asyncio.sleep(0.005)
        (row,) = (await engine.deployment.steps(event_id)).values()

    assert row["next_attempt_at"] - datetime.now(UTC) < _SOON
    sealed = row["pending_sealed"]
    pending = engine.deployment.keyring.open_json(sealed, places.invocation_pending(row["id"]))
    assert pending["state"]["build"] == 7
    async with engine.worker(registry=registry):
        assert await engine.finish(event_id) == "SUCCEEDED"
    assert [name for name, _, _ in Build.calls] == ["execute", "resume"]
    registry.close()


@pytest.mark.parametrize("raises", ["retry", "fault"])
async def test_what_resume_raises_counts_and_the_next_attempt_resumes_again(engine: Engine, raises: str) -> None:
    step = Step(action="function", name="one", config={"raises": raises}, retry_policy={**QUICK, "max_attempts": 3})
    event_id = await _run(engine, step)

    assert await engine.deployment.output(event_id, "one") == {"attempt": 4}
    assert Build.calls == [("execute", 1, None), *(("resume", number, "kept") for number in (2, 3, 4))]
    phases = await engine.deployment.phases(event_id, "one")
    assert phases == ["STARTED", "WAITING", *["STARTED", "RETRYING"] * 2, "STARTED", "SUCCEEDED"]


async def test_attempts_of_resume_are_used_up_like_any(engine: Engine) -> None:
    step = Step(action="function", name="one", config={"raises": "fault"}, retry_policy={**QUICK, "max_attempts": 2})
    event_id = await _run(engine, step)

    assert await engine.deployment.statuses(event_id) == {"one": "FAILED"}
    assert [number for _, number, _ in Build.calls] == [1, 2, 3]


async def test_a_permanent_failure_of_resume_ends_the_invocation(engine: Engine) -> None:
    event_id = await _run(engine, Step(action="function", name="one", config={"raises": None}))

    assert await engine.deployment.statuses(event_id) == {"one": "FAILED_PERMANENT"}


async def test_at_its_deadline_a_waiting_invocation_has_timed_out_for_good(engine: Engine) -> None:
    started = time.monotonic()
    event_id = await _run(engine, Step(action="build", name="one", config={"rounds": 10_000, "deadlineSeconds": 0.05}))

    assert time.monotonic() - started < 10
    assert await engine.deployment.statuses(event_id) == {"one": "TIMED_OUT"}
    (row,) = (await engine.deployment.steps(event_id)).values()
    assert row["error"]["type"] == "DeadlinePassed"
    assert [name for name, _, _ in Build.calls] == ["execute"]
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "WAITING", "STARTED", "TIMED_OUT"]


async def test_a_deadline_that_has_come_already_ends_the_invocation_at_once(engine: Engine) -> None:
    event_id = await _run(engine, Step(action="build", name="one", config={"rounds": 1, "deadlineSeconds": -5}))

    assert await engine.deployment.statuses(event_id) == {"one": "TIMED_OUT"}
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "TIMED_OUT"]


async def test_an_action_without_resume_that_waits_fails_for_good_and_says_why(engine: Engine) -> None:
    event_id = await _run(engine, Step(action="endless", name="one", retry_policy=QUICK))

    (row,) = (await engine.deployment.steps(event_id)).values()
    assert row["status"] == "FAILED_PERMANENT"
    assert row["error"]["type"] == "NoResume"
    assert "resume(self, call, state)" in row["error"]["message"]
    assert len(Build.calls) == 1


class _LosesWaits(ActionActivities):
    """A worker that dies between recording a wait and telling Temporal of it."""

    @activity.defn(name=EXECUTE_ACTION)
    async def execute_action(self, task: ActionTask) -> Outcome:
        try:
            return await super().execute_action(task)
        except ApplicationError:
            if activity.info().attempt == 1:
                raise ApplicationError("the worker died here") from None
            raise


async def test_a_wait_that_was_recorded_but_not_reported_is_kept_to_its_time(engine: Engine) -> None:
    registry = _registry()
    async with engine.worker(_LosesWaits, registry=registry):
        step = Step(action="build", name="one", config={"rounds": 1, "seconds": 4}, retry_policy=QUICK)
        event_id = await engine.fire([step])
        await engine.finish(event_id)
    registry.close()

    first, second = await engine.deployment.rows("SELECT started_at, ended_at FROM attempts ORDER BY number")
    assert second["started_at"] - first["ended_at"] >= timedelta(seconds=3.5)
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "WAITING", "STARTED", "SUCCEEDED"]


async def test_an_event_is_cancelled_while_a_step_waits(engine: Engine) -> None:
    registry = _registry()
    async with engine.worker(registry=registry):
        event_id = await engine.fire([Step(action="build", name="one", config={"rounds": 10_000})])
        async with asyncio.timeout(10):
            while (await engine.deployment.statuses(event_id)) != {"one": "WAITING"}:
                await asyncio.sleep(0.005)
        await engine.handle(event_id).cancel()

        assert await engine.finish(event_id) == "CANCELLED"
    registry.close()
    (row,) = (await engine.deployment.steps(event_id)).values()
    assert row["pending_sealed"] is None


@pytest.mark.parametrize("is_resumed", [False, True], ids=["at first", "in a later turn"])
async def test_an_event_is_cancelled_while_an_action_is_about_to_answer_that_it_waits(
    engine: Engine, is_resumed: bool
) -> None:
    plugin, host = Plugin(), asyncio.get_running_loop()
    answering = asyncio.Event()

    async def answer(call: ActionCall[Any], *, is_last: bool) -> Pending:
        if not is_last:
            return Pending(check_after=timedelta(milliseconds=50))
        host.call_soon_threadsafe(answering.set)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1)  # it does not let itself be interrupted
        return Pending(check_after=timedelta(days=30))

    async def resume(call: ActionCall[Any], state: Any) -> Pending:
        return await answer(call, is_last=True)

    @plugin.action("slow", display_name="Slow", config_schema={}, resume=resume)
    async def slow(call: ActionCall[Any]) -> Pending:
        return await answer(call, is_last=not is_resumed)

    registry = registry_of(plugin)
    async with engine.worker(registry=registry):
        event_id = await engine.fire([Step(action="slow", name="one")])
        await asyncio.wait_for(answering.wait(), 10)
        await engine.handle(event_id).cancel()

        assert await engine.finish(event_id) == "CANCELLED"
    registry.close()

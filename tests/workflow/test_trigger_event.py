"""Events from their dispatch to their closing."""

import asyncio
import hashlib
from typing import Any

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.actions import ActionActivities
from latchflow.model import ActionTask, Outcome
from latchflow.names import EXECUTE_ACTION, MANIFEST_QUERY, NOT_HERE, event_workflow_id
from latchflow.runtime.lifecycle.registry import Registry
from latchflow.temporal.dispatch import Firing
from latchflow.temporal.history import read_history
from tests.support.execution import Step
from tests.workflow.conftest import KeepHistory
from tests.workflow.engine import QUICK, Engine

_ECHO = Step(action="echo", name="one")


async def test_the_output_of_a_step_is_the_input_of_the_next(engine: Engine, keep_history: KeepHistory) -> None:
    event_id, status = await engine.run(
        [
            Step(action="echo", name="greet", input={"text": "'Hello ' + event.context.name"}),
            Step(action="count", name="count", sort_order=1, input={"text": "steps.greet.output.text"}),
        ],
        context={"name": "Ada"},
    )
    await keep_history("two_steps", event_id)

    assert status == "SUCCEEDED"
    assert await engine.deployment.output(event_id, "count") == {"letters": 9}
    assert await engine.deployment.phases(event_id, "count") == ["STARTED", "SUCCEEDED"]


async def test_without_an_input_the_payload_is_the_context(engine: Engine) -> None:
    event_id, _ = await engine.run([_ECHO], context={"name": "Ada\x00"})

    assert await engine.deployment.output(event_id, "one") == {"name": "Ada\x00"}
    (call,) = engine.actions.calls
    assert not call.is_payload_from_input
    assert call.idempotency_key == str(call.invocation.id)


async def test_steps_of_one_sort_order_run_side_by_side_and_pipelines_too(
    engine: Engine, keep_history: KeepHistory
) -> None:
    hanging = [Step(action="hang", name=name) for name in ("a", "b")]
    async with engine.worker():
        event_id = await engine.fire(hanging, [Step(action="hang", name="c")])
        entered: set[str] = set()
        async with asyncio.timeout(10):
            while entered != {"a", "b", "c"}:
                entered = set(engine.actions.steps())
                await asyncio.sleep(0.01)
        await engine.handle(event_id).cancel()

        assert await engine.finish(event_id) == "CANCELLED"
    await keep_history("parallel_cancelled", event_id)


async def test_a_failed_stop_step_lets_its_siblings_finish_and_skips_what_follows(
    engine: Engine, keep_history: KeepHistory
) -> None:
    event_id, status = await engine.run(
        [
            Step(action="refuse", name="refuse"),
            Step(action="flaky", name="sibling", config={"failures": 1}, retry_policy=QUICK),
            Step(action="echo", name="next", sort_order=1),
        ]
    )
    await keep_history("stopped", event_id)

    assert status == "FAILED"
    assert await engine.deployment.statuses(event_id) == {
        "refuse": "FAILED_PERMANENT",
        "sibling": "SUCCEEDED",
        "next": "SKIPPED",
    }
    assert await engine.deployment.phases(event_id, "next") == ["SKIPPED"]
    assert (await engine.deployment.steps(event_id))["next"]["skipped_reason"] == "previous_failed"


async def test_a_failed_continue_step_makes_a_partial_failure(engine: Engine) -> None:
    event_id, status = await engine.run(
        [Step(action="refuse", name="refuse", on_failure="continue"), Step(action="echo", name="next", sort_order=1)]
    )

    assert status == "PARTIAL_FAILURE"
    assert await engine.deployment.statuses(event_id) == {"refuse": "FAILED_PERMANENT", "next": "SUCCEEDED"}


async def test_runs_that_end_differently_make_a_partial_failure(engine: Engine) -> None:
    _, status = await engine.run([_ECHO], [Step(action="refuse", name="refuse")])

    assert status == "PARTIAL_FAILURE"


async def test_a_disabled_step_is_skipped_without_a_call(engine: Engine) -> None:
    event_id, status = await engine.run([Step(action="echo", name="off", is_enabled=False), _ECHO])

    assert status == "SUCCEEDED"
    assert await engine.deployment.statuses(event_id) == {"off": "SKIPPED", "one": "SUCCEEDED"}
    assert engine.actions.steps() == ["one"]


async def test_a_step_whose_when_is_false_is_skipped_and_the_run_goes_on(
    engine: Engine, keep_history: KeepHistory
) -> None:
    event_id, status = await engine.run(
        [
            Step(action="echo", name="maybe", when="event.context.total > 100"),
            Step(action="echo", name="next", sort_order=1, when="event.context.total > 1"),
        ],
        context={"total": 10},
    )
    await keep_history("when_is_false", event_id)

    assert status == "SUCCEEDED"
    assert await engine.deployment.statuses(event_id) == {"maybe": "SKIPPED", "next": "SUCCEEDED"}
    skipped = (await engine.deployment.steps(event_id))["maybe"]
    assert skipped["skipped_reason"] == "when is false: event.context.total > 100"
    assert await engine.deployment.phases(event_id, "maybe") == ["SKIPPED"]


async def test_a_step_that_fails_at_first_succeeds_later_under_the_same_key(
    engine: Engine, keep_history: KeepHistory
) -> None:
    event_id, status = await engine.run(
        [Step(action="flaky", name="one", config={"failures": 2}, retry_policy=QUICK, input={"x": "1 + 1"})]
    )
    await keep_history("retried", event_id)

    assert status == "SUCCEEDED"
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "RETRYING"] * 2 + ["STARTED", "SUCCEEDED"]
    assert [call.invocation.attempt for call in engine.actions.calls] == [1, 2, 3]
    assert len({call.idempotency_key for call in engine.actions.calls}) == 1
    assert all(dict(call.payload) == {"x": 2} for call in engine.actions.calls)


async def test_an_asked_for_retry_comes_when_asked_for(engine: Engine) -> None:
    slow = {**QUICK, "initial_interval_seconds": 60.0, "maximum_interval_seconds": 60.0}
    event_id, status = await engine.run([Step(action="later", name="one", retry_policy=slow)])

    assert status == "SUCCEEDED"
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "RETRYING", "STARTED", "SUCCEEDED"]


async def test_a_step_whose_attempts_are_used_up_has_failed(engine: Engine, keep_history: KeepHistory) -> None:
    event_id, status = await engine.run([Step(action="flaky", name="one", config={"failures": 9}, retry_policy=QUICK)])
    await keep_history("used_up", event_id)

    assert status == "FAILED"
    assert await engine.deployment.statuses(event_id) == {"one": "FAILED"}
    phases = await engine.deployment.phases(event_id, "one")
    assert phases == ["STARTED", "RETRYING", "STARTED", "RETRYING", "STARTED", "FAILED"]
    assert (await engine.deployment.steps(event_id))["one"]["error"] == {"type": "ValueError", "message": "not yet"}


async def test_a_permanent_failure_is_never_tried_again(engine: Engine) -> None:
    event_id, status = await engine.run([Step(action="refuse", name="one", retry_policy=QUICK)])

    assert status == "FAILED"
    assert await engine.deployment.statuses(event_id) == {"one": "FAILED_PERMANENT"}
    assert len(engine.actions.calls) == 1


async def test_attempts_that_take_too_long_time_out_and_count(engine: Engine) -> None:
    event_id, status = await engine.run(
        [Step(action="hang", name="one", timeout_seconds=1, retry_policy={**QUICK, "max_attempts": 2})]
    )

    assert status == "FAILED"
    assert await engine.deployment.statuses(event_id) == {"one": "TIMED_OUT"}
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "TIMED_OUT", "STARTED", "TIMED_OUT"]
    attempts = await engine.deployment.rows("SELECT is_lost FROM attempts")
    assert [attempt["is_lost"] for attempt in attempts] == [False, False]


async def test_cancelling_an_event_cancels_its_action_and_ends_everything_cancelled(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([Step(action="hang", name="one"), Step(action="echo", name="two", sort_order=1)])
        await engine.actions.entered("one")
        await engine.handle(event_id).cancel()

        assert await engine.finish(event_id) == "CANCELLED"
    assert engine.actions.cancelled.is_set()
    assert await engine.deployment.statuses(event_id) == {"one": "CANCELLED", "two": "CANCELLED"}
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "CANCELLED"]
    assert (await engine.deployment.event(event_id))["closed_reason"] == "cancelled"


async def test_an_event_cancelled_before_its_first_step_still_closes(engine: Engine) -> None:
    event_id = await engine.fire([_ECHO])
    await engine.handle(event_id).cancel()
    async with engine.worker():
        assert await engine.finish(event_id) == "CANCELLED"
    assert engine.actions.calls == []


async def test_an_event_is_cancelled_while_a_step_waits_for_its_next_attempt(engine: Engine) -> None:
    slow = {**QUICK, "initial_interval_seconds": 60.0, "maximum_interval_seconds": 60.0}
    async with engine.worker():
        event_id = await engine.fire([Step(action="flaky", name="one", config={"failures": 9}, retry_policy=slow)])
        await engine.actions.entered("one")
        async with asyncio.timeout(5):
            while await engine.deployment.statuses(event_id) != {"one": "RETRYING"}:
                await asyncio.sleep(0.01)
        await engine.handle(event_id).cancel()

        assert await engine.finish(event_id) == "CANCELLED"
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "RETRYING", "CANCELLED"]


class _LosesResults(ActionActivities):
    """A worker that dies between recording an ending and reporting it."""

    @activity.defn(name=EXECUTE_ACTION)
    async def execute_action(self, task: ActionTask) -> Outcome:
        outcome = await super().execute_action(task)
        if activity.info().attempt == 1:
            raise ApplicationError("the worker died here")
        return outcome


async def test_a_success_that_was_recorded_but_not_reported_is_adopted_and_not_repeated(engine: Engine) -> None:
    async with engine.worker(_LosesResults):
        event_id = await engine.fire(
            [
                Step(action="echo", name="one", input={"text": "'kept'"}, retry_policy=QUICK),
                Step(action="count", name="two", sort_order=1, input={"text": "steps.one.output.text"}),
            ]
        )

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert engine.actions.steps() == ["one", "two"]
    assert await engine.deployment.output(event_id, "two") == {"letters": 4}


class _LosesEndings(ActionActivities):
    """A worker whose first attempt dies before it records anything of its end."""

    async def _report(self, attempt: Any, result: Any) -> Outcome:
        if activity.info().attempt == 1:
            raise ApplicationError("the worker died here")
        return await super()._report(attempt, result)


async def test_an_attempt_that_never_reported_is_ended_as_lost_and_does_not_count(engine: Engine) -> None:
    async with engine.worker(_LosesEndings):
        event_id = await engine.fire([Step(action="echo", name="one", retry_policy={**QUICK, "max_attempts": 1})])

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "TIMED_OUT", "STARTED", "SUCCEEDED"]


async def test_a_worker_without_the_capability_uses_up_no_attempt(engine: Engine) -> None:
    async with engine.worker(registry=Registry.union([])):
        event_id = await engine.fire([Step(action="echo", name="one", retry_policy={**QUICK, "max_attempts": 1})])
        async with asyncio.timeout(10):
            while await _last_failure(engine, event_id) != (NOT_HERE, True):
                await asyncio.sleep(0.02)
        assert await engine.deployment.statuses(event_id) == {"one": "UNROUTED"}
    async with engine.worker():
        assert await engine.finish(event_id) == "SUCCEEDED"
    assert await engine.deployment.phases(event_id, "one") == ["UNROUTED", "STARTED", "SUCCEEDED"]
    assert [call.invocation.attempt for call in engine.actions.calls] == [1]


@pytest.mark.parametrize(
    "step",
    [
        Step(action="echo", name="one", input={"a": ["event.context.missing"]}),
        Step(action="echo", name="one", when="event.context.missing == 1"),
    ],
    ids=["input", "when"],
)
async def test_an_expression_that_cannot_be_evaluated_fails_its_step_for_good_and_is_named(
    engine: Engine, step: Step
) -> None:
    event_id, status = await engine.run([step])
    failed = (await engine.deployment.steps(event_id))["one"]

    assert status == "FAILED"
    assert failed["status"] == "FAILED_PERMANENT"
    assert failed["error"]["type"] == "ExpressionError"
    assert "event.context.missing" in failed["error"]["message"]
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "FAILED_PERMANENT"]
    assert engine.actions.calls == []


async def test_a_when_that_is_neither_true_nor_false_fails_its_step_for_good(engine: Engine) -> None:
    event_id, _ = await engine.run([Step(action="echo", name="one", when="'yes'")])

    assert await engine.deployment.statuses(event_id) == {"one": "FAILED_PERMANENT"}


async def test_a_big_output_is_a_reference_in_the_history_and_whole_for_the_next_step(
    engine: Engine, keep_history: KeepHistory
) -> None:
    event_id, status = await engine.run(
        [
            Step(action="repeat", name="big", config={"times": 100_000}),
            Step(action="count", name="next", sort_order=1, input={"text": "steps.big.output.text"}),
        ]
    )
    await keep_history("big_output", event_id)
    page = await read_history(engine.client, event_workflow_id(event_id), limit=100, page_token=None)
    results = [item.attributes["result"][0] for item in page.items if item.type == "ActivityTaskCompleted"]
    invocation = (await engine.deployment.steps(event_id))["big"]["id"]
    text = b'{"text":"' + b"x" * 100_000 + b'"}'

    assert status == "SUCCEEDED"
    assert results[0]["output"] == {
        "ref": f"invocations/{invocation}/output",
        "sha256": hashlib.sha256(text).hexdigest(),
        "size": len(text),
    }
    assert results[1]["output"] == {"letters": 100_000}


async def test_a_progress_that_no_heartbeat_can_carry_fails_in_the_action_that_reports_it(engine: Engine) -> None:
    event_id, _ = await engine.run([Step(action="progress", name="one", retry_policy={**QUICK, "max_attempts": 1})])

    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "FAILED"]
    (attempt,) = await engine.deployment.rows("SELECT progress, error FROM attempts")
    assert attempt["error"]["type"] == "TypeError"
    assert attempt["progress"] == {"done": "half\ufffd"}


async def test_a_second_delivery_of_an_event_starts_no_second_run(engine: Engine) -> None:
    trigger_id = await engine.deployment.define([_ECHO])
    firing = Firing(trigger_id=trigger_id, context={}, key="order-1")
    async with engine.worker():
        accepted = await asyncio.gather(*(engine.dispatcher.dispatch(firing) for _ in range(5)))
        await engine.finish(accepted[0].event_id)
        await engine.deployment.rows("UPDATE events SET start_confirmed_at = NULL, closed_at = NULL")
        assert await engine.dispatcher.drain(older_than_seconds=-1) == 1
    assert len(engine.actions.calls) == 1


async def test_the_workflow_answers_what_it_owes(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([_ECHO])
        await engine.finish(event_id)
        owed = await engine.handle(event_id).query(MANIFEST_QUERY)

    assert owed["event_id"] == str(event_id)
    assert [step["name"] for run in owed["runs"] for step in run["steps"]] == ["one"]


async def test_nothing_readable_of_an_event_stands_in_temporal(engine: Engine) -> None:
    event_id, _ = await engine.run(
        [
            Step(action="echo", name="one", input={"text": "'zebra ' + event.context.name"}),
            Step(action="refuse", name="two"),
        ],
        context={"name": "giraffe"},
    )
    history = (await engine.handle(event_id).fetch_history()).to_json()

    assert not [word for word in ("zebra", "giraffe", "recipient") if word in history]


async def _last_failure(engine: Engine, event_id: Any) -> tuple[str, bool]:
    description = await engine.handle(event_id).describe()
    for pending in description.raw_description.pending_activities:
        return pending.last_failure.application_failure_info.type, pending.attempt > 3
    return "", False

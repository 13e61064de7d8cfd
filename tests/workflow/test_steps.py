"""Steps that wait, go over lists, or answer to a failure."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from latchflow.names import CANCEL_RUN_SIGNAL
from tests.support.execution import Step
from tests.workflow.conftest import KeepHistory
from tests.workflow.engine import QUICK, Engine


def _each(name: str, for_each: str, **fields: object) -> Step:
    known: dict[str, object] = {"action": "echo", "input": {"value": "item", "at": "index"}}
    return Step(name=name, for_each=for_each, **{**known, **fields})  # type: ignore[arg-type]


@pytest.mark.parametrize("count", [0, 3, 25, 120], ids=["none", "inline", "in a child", "in several runs of it"])
async def test_a_step_is_executed_once_for_each_item_of_its_list(
    engine: Engine, keep_history: KeepHistory, count: int
) -> None:
    after = Step(action="echo", name="after", sort_order=1, input={"all": "steps.each.output.map(o, o.value)"})
    event_id, status = await engine.run(
        [_each("each", "event.context.list"), after], context={"list": list(range(count))}
    )
    await keep_history(f"items_{count}", event_id)

    assert status == "SUCCEEDED"
    items = await engine.deployment.items(event_id, "each")
    assert [(row["item_index"], row["status"]) for row in items] == [(n, "SUCCEEDED") for n in range(count)]
    assert await engine.deployment.output(event_id, "after") == {"all": list(range(count))}
    assert len(engine.actions.calls) == count + 1
    await engine.deployment.check_accounts(event_id)


async def test_no_more_items_run_at_once_than_max_parallel_says(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([_each("each", "[1, 2, 3, 4]", action="hang", max_parallel=2)])
        for _ in range(2):
            await engine.actions.entered("each")
        await asyncio.sleep(0.5)
        running = len(engine.actions.calls)
        await engine.handle(event_id).cancel()

        assert await engine.finish(event_id) == "CANCELLED"
    assert running == 2
    items = await engine.deployment.items(event_id, "each")
    assert [row["status"] for row in items] == ["CANCELLED"] * 4
    await engine.deployment.check_accounts(event_id)


async def test_when_some_items_fail_the_run_is_a_partial_failure_and_later_steps_do_not_run(engine: Engine) -> None:
    event_id, status = await engine.run(
        [
            _each("each", "[0, 9]", action="some", retry_policy=QUICK),
            Step(action="echo", name="after", sort_order=1),
        ]
    )

    assert status == "PARTIAL_FAILURE"
    assert await engine.deployment.statuses(event_id) == {"each": "FAILED", "after": "SKIPPED"}
    assert [row["status"] for row in await engine.deployment.items(event_id, "each")] == [
        "SUCCEEDED",
        "FAILED_PERMANENT",
    ]
    (each, _) = (await engine.deployment.steps(event_id)).values()
    assert each["error"] == {"type": "ItemsFailed", "message": "1 of 2 items failed."}


async def test_when_all_items_fail_the_run_has_failed(engine: Engine) -> None:
    event_id, status = await engine.run([_each("each", "[1, 2]", action="refuse")])

    assert status == "FAILED"
    assert await engine.deployment.statuses(event_id) == {"each": "FAILED"}


@pytest.mark.parametrize(
    ("for_each", "words"),
    [("event.context", "must be a list"), ("lists.range(10000) + [1]", "at most 10000"), ("event.context.no", "no")],
)
async def test_what_is_no_list_fails_the_step_for_good_and_says_why(engine: Engine, for_each: str, words: str) -> None:
    event_id, status = await engine.run([_each("each", for_each)])

    assert status == "FAILED"
    row = (await engine.deployment.steps(event_id))["each"]
    assert row["status"] == "FAILED_PERMANENT"
    assert words in row["error"]["message"]
    assert engine.actions.calls == []


async def test_when_is_asked_once_for_all_items(engine: Engine) -> None:
    event_id, status = await engine.run([_each("each", "[1]", when="false")])

    assert status == "SUCCEEDED"
    assert await engine.deployment.statuses(event_id) == {"each": "SKIPPED"}
    assert await engine.deployment.items(event_id, "each") == []


async def test_a_delay_lasts_as_long_as_it_says(engine: Engine, keep_history: KeepHistory) -> None:
    steps = [
        Step(name="pause", kind="delay", wait={"for": "PT0.5S"}),
        Step(action="echo", name="after", sort_order=1, input={"status": "steps.pause.status"}),
    ]
    async with engine.worker():
        event_id = await engine.fire(steps)
        async with asyncio.timeout(10):
            while (await engine.deployment.statuses(event_id))["pause"] != "WAITING":
                await asyncio.sleep(0.01)
        waiting = (await engine.deployment.steps(event_id))["pause"]
        assert await engine.finish(event_id) == "SUCCEEDED"
    await keep_history("delay", event_id)

    assert waiting["waiting_for"] == "time"
    ended = (await engine.deployment.steps(event_id))["pause"]
    assert timedelta(0) <= ended["ended_at"] - waiting["next_attempt_at"] < timedelta(seconds=1)
    assert await engine.deployment.output(event_id, "after") == {"status": "SUCCEEDED"}
    assert await engine.deployment.phases(event_id, "pause") == ["WAITING", "SUCCEEDED"]


async def test_a_delay_until_a_time_of_the_event(engine: Engine) -> None:
    until = (datetime.now(UTC) + timedelta(seconds=1.5)).isoformat()
    event_id, status = await engine.run(
        [Step(name="pause", kind="delay", wait={"until": "event.context.until"})], context={"until": until}
    )

    assert status == "SUCCEEDED"
    assert (await engine.deployment.event(event_id))["closed_at"] >= datetime.fromisoformat(until)


@pytest.mark.parametrize("until", ["'2020-01-01T00:00:00Z'", "'tomorrow'", "1", "'2999-01-01T00:00:00Z'"])
async def test_a_delay_until_what_is_no_time_to_come_fails_for_good(engine: Engine, until: str) -> None:
    event_id, status = await engine.run([Step(name="pause", kind="delay", wait={"until": until})])

    assert status == "FAILED"
    row = (await engine.deployment.steps(event_id))["pause"]
    assert row["status"] == "FAILED_PERMANENT"
    assert "until" in row["error"]["message"]


async def test_an_event_is_cancelled_while_it_is_delayed(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([Step(name="pause", kind="delay", wait={"for": "P300D"})])
        async with asyncio.timeout(10):
            while (await engine.deployment.statuses(event_id))["pause"] != "WAITING":
                await asyncio.sleep(0.01)
        await engine.handle(event_id).cancel()

        assert await engine.finish(event_id) == "CANCELLED"
    assert await engine.deployment.statuses(event_id) == {"pause": "CANCELLED"}


async def test_steps_for_a_failure_run_when_the_run_failed(engine: Engine, keep_history: KeepHistory) -> None:
    tell = Step(
        action="echo",
        name="tell",
        is_failure_step=True,
        input={"status": "steps.one.status", "why": "steps.one.error.message"},
    )
    event_id, status = await engine.run([Step(action="refuse", name="one"), tell])
    await keep_history("failure_steps", event_id)

    assert status == "FAILED"
    assert await engine.deployment.output(event_id, "tell") == {
        "status": "FAILED_PERMANENT",
        "why": "no such recipient",
    }


async def test_steps_for_a_failure_are_skipped_when_there_is_none(engine: Engine) -> None:
    event_id, status = await engine.run(
        [Step(action="echo", name="one"), Step(action="echo", name="tell", is_failure_step=True)]
    )

    assert status == "SUCCEEDED"
    row = (await engine.deployment.steps(event_id))["tell"]
    assert (row["status"], row["skipped_reason"]) == ("SKIPPED", "run_did_not_fail")


@pytest.mark.parametrize("pipelines", [2, 5], ids=["undivided", "divided"])
async def test_one_run_is_cancelled_and_the_others_go_on(
    engine: Engine, keep_history: KeepHistory, pipelines: int
) -> None:
    others = [[Step(action="echo", name=f"other{n}")] for n in range(pipelines - 1)]
    async with engine.worker():
        event_id = await engine.fire(
            [Step(action="hang", name="hang"), Step(action="echo", name="next", sort_order=1)], *others
        )
        await engine.actions.entered("hang")
        run_id: UUID = (await engine.deployment.steps(event_id))["hang"]["run_id"]
        await engine.handle(event_id).signal(CANCEL_RUN_SIGNAL, run_id)

        assert await engine.finish(event_id) == "PARTIAL_FAILURE"
    await keep_history(f"run_cancelled_of_{pipelines}", event_id)
    assert engine.actions.cancelled.is_set()
    statuses = await engine.deployment.statuses(event_id)
    assert (statuses.pop("hang"), statuses.pop("next")) == ("CANCELLED", "CANCELLED")
    assert set(statuses.values()) == {"SUCCEEDED"}
    await engine.deployment.check_accounts(event_id)


async def test_an_event_that_owes_much_runs_each_pipeline_in_a_workflow_of_its_own(
    engine: Engine, keep_history: KeepHistory
) -> None:
    event_id, status = await engine.run(
        *([Step(action="echo", name=f"one{n}")] for n in range(4)),
        [Step(action="refuse", name="no"), Step(action="echo", name="tell", is_failure_step=True)],
    )
    await keep_history("divided", event_id)

    assert status == "PARTIAL_FAILURE"
    runs = await engine.deployment.rows("SELECT status FROM runs WHERE event_id = %s ORDER BY ordinal", event_id)
    assert [row["status"] for row in runs] == ["SUCCEEDED"] * 4 + ["FAILED"]
    await engine.deployment.check_accounts(event_id)

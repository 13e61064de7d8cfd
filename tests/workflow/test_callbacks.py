"""Invocations that are called back, whatever dies or is away meanwhile."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from temporalio import activity
from temporalio.service import RPCError

from activities.actions import ActionActivities
from latchflow.model import ActionTask, Outcome
from latchflow.names import EXECUTE_ACTION, wait_workflow_id
from latchflow.sdk import ActionCall, Callback, Pending
from latchflow.store import callbacks
from tests.support.execution import Step
from tests.workflow.calling_back import LONG, PUBLIC_URL, Outside, called_back
from tests.workflow.conftest import KeepHistory
from tests.workflow.engine import QUICK, Engine

ASK = Step(action="ask", name="ask", retry_policy=QUICK)


@pytest.fixture
async def outside(engine: Engine) -> AsyncIterator[Outside]:
    outside = called_back(engine)
    yield outside
    outside.registry.close()


async def test_a_callback_ends_the_wait_at_once_and_is_handed_to_resume(
    engine: Engine, outside: Outside, keep_history: KeepHistory
) -> None:
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([ASK])
        waiting = await outside.until(event_id, "WAITING")
        before = datetime.now(UTC)
        assert await outside.send(outside.urls[0], {"state": "ready", "ü": [1]}) is None

        assert await engine.finish(event_id) == "SUCCEEDED"
        refusal = await outside.send(outside.urls[0], {})
    await keep_history("called_back", event_id)

    assert outside.urls[0].startswith(f"{PUBLIC_URL}/callbacks/lfk_")
    assert waiting["waiting_for"] == "callback"
    assert waiting["next_attempt_at"] - before > LONG - timedelta(minutes=1)
    assert await engine.deployment.output(event_id, "ask") == {"body": {"state": "ready", "ü": [1]}}
    (_, execute), (number, callback) = outside.calls
    assert (execute, number) == ("execute", 2)
    assert isinstance(callback, Callback)
    assert callback.content_type == "application/json"
    assert before <= callback.received_at <= datetime.now(UTC)
    assert await engine.deployment.phases(event_id, "ask") == ["STARTED", "WAITING", "STARTED", "SUCCEEDED"]
    assert refusal == "used"


async def test_a_plain_function_gets_an_address_too(engine: Engine, outside: Outside) -> None:
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([Step(action="ask-plainly", name="ask")])
        await outside.until(event_id, "WAITING")
        await outside.send(outside.urls[0], "text")

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert outside.seen() == ["text"]


async def test_an_invocation_that_nobody_calls_back_is_resumed_by_time_without_a_callback(
    engine: Engine, outside: Outside
) -> None:
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([Step(action="ask", name="ask", config={"seconds": 0.3})])
        row = await outside.until(event_id, "WAITING")

        assert await engine.finish(event_id) == "SUCCEEDED"
        refusal = await outside.send(outside.urls[0], {})
    assert row["waiting_for"] == "callback"
    assert outside.seen() == [None]
    assert refusal == "ended"


async def test_a_callback_that_comes_before_the_action_has_returned_lets_it_resume_at_once(
    engine: Engine, outside: Outside
) -> None:
    async def answer_early() -> None:
        await outside.send(outside.urls[0], "early")

    outside.before_return = answer_early
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([ASK])

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert outside.seen() == ["early"]


async def test_a_callback_whose_signal_never_came_is_found_by_the_chore(engine: Engine, outside: Outside) -> None:
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([ASK])
        await outside.until(event_id, "WAITING")
        await outside.send(outside.urls[0], "unsignalled", wakes=False)  # the API died here, or Temporal was away
        async with asyncio.timeout(10):
            while await outside.waker.run_once() == 0:
                await asyncio.sleep(0.05)

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert outside.seen() == ["unsignalled"]
    assert await outside.waker.run_once() == 0


async def test_the_chore_tells_a_workflow_without_workers_ever_more_seldom(engine: Engine, outside: Outside) -> None:
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([ASK])
        await outside.until(event_id, "WAITING")
        await _begun(engine, event_id)
    await outside.send(outside.urls[0], "later", wakes=False)
    told = [await outside.waker.run_once() for _ in range(5)]

    assert told == [1, 0, 0, 0, 0]
    async with engine.worker(registry=outside.registry):
        assert await engine.finish(event_id) == "SUCCEEDED"


async def _begun(engine: Engine, event_id: UUID) -> None:
    """Wait until a workflow waits with the invocation."""
    (row,) = (await engine.deployment.steps(event_id)).values()
    async with asyncio.timeout(10):
        while True:
            try:
                await engine.client.get_workflow_handle(wait_workflow_id(row["id"])).describe()
            except RPCError:
                await asyncio.sleep(0.02)
            else:
                return


async def test_every_retry_of_a_resume_gets_the_same_callback_and_the_next_resume_none(
    engine: Engine, outside: Outside
) -> None:
    async def resume(call: ActionCall[Any]) -> Any:
        if call.invocation.attempt < 4:
            raise ValueError("not yet")
        return Pending(check_after=timedelta(milliseconds=150)) if call.callback else {"by": "time"}

    outside.on_resume = resume
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([ASK])
        await outside.until(event_id, "WAITING")
        await outside.send(outside.urls[0], "once")

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert outside.seen() == ["once", "once", "once", None]
    (row,) = await engine.deployment.rows("SELECT seen_at, body_sealed FROM callbacks")
    assert row["seen_at"] is not None
    assert row["body_sealed"] is None


async def test_of_several_callbacks_each_comes_with_a_resume_of_its_own_in_their_order(
    engine: Engine, outside: Outside
) -> None:
    async def resume(call: ActionCall[Any]) -> Any:
        return {} if len(outside.seen()) == 3 else Pending(check_after=LONG)

    outside.on_resume = resume
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([Step(action="ask", name="ask", config={"urls": 3})])
        await outside.until(event_id, "WAITING")
        for number, url in enumerate(outside.urls):
            await outside.send(url, number, wakes=number == 2)

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert outside.seen() == [0, 1, 2]


class _DiesOnce(ActionActivities):
    """A worker that dies once at a point of an attempt that resumes."""

    where = ""
    deaths = 0

    @activity.defn(name=EXECUTE_ACTION)
    async def execute_action(self, task: ActionTask) -> Outcome:
        if task.turn == 1 and type(self).where == "before the claim":
            self._die()
        outcome = await super().execute_action(task)
        if task.turn == 1 and type(self).where == "before it reports":
            self._die()
        return outcome

    async def _carry_out(self, attempt: Any, *arguments: Any) -> Outcome:
        if attempt.task.turn == 1 and type(self).where == "after the claim":
            self._die()
        return await super()._carry_out(attempt, *arguments)

    async def _settle(self, attempt: Any, *arguments: Any) -> Outcome:
        if attempt.task.turn == 1 and type(self).where == "before the ending":
            self._die()
        return await super()._settle(attempt, *arguments)

    def _die(self) -> None:
        type(self).deaths += 1
        if type(self).deaths == 1:
            raise RuntimeError("the worker died here")


@pytest.mark.parametrize(
    ("where", "calls"),
    [("before the claim", 1), ("after the claim", 1), ("before the ending", 2), ("before it reports", 1)],
)
async def test_wherever_a_worker_dies_the_callback_is_not_lost(
    engine: Engine, outside: Outside, monkeypatch: pytest.MonkeyPatch, where: str, calls: int
) -> None:
    monkeypatch.setattr(_DiesOnce, "where", where)
    monkeypatch.setattr(_DiesOnce, "deaths", 0)
    async with engine.worker(_DiesOnce, registry=outside.registry):
        event_id = await engine.fire([ASK])
        await outside.until(event_id, "WAITING")
        await outside.send(outside.urls[0], "kept")

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert _DiesOnce.deaths >= 1
    assert outside.seen() == ["kept"] * calls
    assert await engine.deployment.output(event_id, "ask") == {"body": "kept"}


async def test_a_callback_that_came_while_execute_was_still_failing_is_handed_to_resume(
    engine: Engine, outside: Outside
) -> None:
    async def answer_and_fail() -> None:
        if len(outside.urls) == 1:
            await outside.send(outside.urls[0], "for the second attempt")
            raise ValueError("execute fails once")

    outside.before_return = answer_and_fail
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([ASK])

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert [call for _, call in outside.calls][:2] == ["execute", "execute"]
    assert outside.seen() == ["for the second attempt"]


async def test_a_callback_that_came_before_the_deadline_is_handled_after_it(engine: Engine, outside: Outside) -> None:
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([ASK])
        row = await outside.until(event_id, "WAITING")
        await _begun(engine, event_id)
    await outside.send(outside.urls[0], "in time")
    # The workers were away until its deadline was over, which came after the callback.
    await engine.deployment.rows(
        "UPDATE invocations SET pending_deadline = clock_timestamp() WHERE id = %s AND pending_deadline IS NULL",
        row["id"],
    )
    async with engine.worker(registry=outside.registry):
        assert await engine.finish(event_id) == "SUCCEEDED"
    assert outside.seen() == ["in time"]


async def test_more_addresses_than_allowed_end_the_invocation_with_a_reason(engine: Engine, outside: Outside) -> None:
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([Step(action="ask", name="ask", config={"urls": callbacks.MOST_OPEN + 1})])

        assert await engine.finish(event_id) == "FAILED"
    (row,) = (await engine.deployment.steps(event_id)).values()
    assert row["status"] == "FAILED_PERMANENT"
    assert row["error"]["type"] == "fatal"
    assert "20 callback addresses" in row["error"]["message"]


async def test_without_a_public_address_the_invocation_ends_and_says_what_to_set(engine: Engine) -> None:
    outside = called_back(engine, public_url="")
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([ASK])

        assert await engine.finish(event_id) == "FAILED"
    outside.registry.close()
    (row,) = (await engine.deployment.steps(event_id)).values()
    assert (row["status"], row["error"]["type"]) == ("FAILED_PERMANENT", "fatal")
    assert "LATCHFLOW_PUBLIC_URL" in row["error"]["message"]


async def test_no_token_stands_in_the_database_or_in_the_history(engine: Engine, outside: Outside) -> None:
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([ASK])
        await outside.until(event_id, "WAITING")
        await outside.send(outside.urls[0], "text")
        await engine.finish(event_id)
        history = (await engine.handle(event_id).fetch_history()).to_json()
    token = outside.urls[0].rpartition("/")[2]
    tables = await engine.deployment.rows(
        "SELECT tablename FROM pg_tables WHERE schemaname = 'public' "
        "AND has_table_privilege(schemaname || '.' || tablename, 'SELECT')"
    )
    found = [
        table["tablename"]
        for table in tables
        if await engine.deployment.rows(
            f"SELECT 1 FROM {table['tablename']} AS r WHERE r::text LIKE %s LIMIT 1",  # noqa: S608 - names of tables
            f"%{token}%",
        )
    ]

    assert len(tables) > 10
    assert found == []
    assert token not in history


async def test_callbacks_of_an_invocation_that_ended_a_month_ago_are_forgotten(
    engine: Engine, outside: Outside
) -> None:
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([ASK])
        await outside.until(event_id, "WAITING")
        await outside.send(outside.urls[0], "text")
        await engine.finish(event_id)
    for statement in (
        "UPDATE callbacks SET created_at = created_at - interval '31 days'",
        "UPDATE invocations SET ended_at = ended_at - interval '31 days'",
    ):
        async with engine.deployment.database.connection() as connection:
            await callbacks.forget(connection)
        assert len(await engine.deployment.rows("SELECT 1 FROM callbacks")) == 1
        await engine.deployment.rows(statement)
    async with engine.deployment.database.connection() as connection:
        await callbacks.forget(connection)

    assert await engine.deployment.rows("SELECT 1 FROM callbacks") == []

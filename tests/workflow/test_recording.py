"""What stands between an action that has run and its record."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import psycopg
from temporalio.client import WorkflowExecutionStatus

from latchflow.errors import UnavailableError
from latchflow.runtime.lifecycle.registry import Registry
from latchflow.store import places
from tests.support.execution import Step
from tests.workflow.engine import QUICK, Engine, InProcess

_SLOW = {**QUICK, "initial_interval_seconds": 900.0, "maximum_interval_seconds": 900.0}


@asynccontextmanager
async def locked(engine: Engine, statement: str, *values: object) -> AsyncIterator[None]:
    """Keep rows locked, as a database that does not get on with its work would."""
    async with await psycopg.AsyncConnection.connect(engine.deployment.urls.url) as connection:
        await connection.execute(statement.encode(), values)
        yield


async def until(engine: Engine, statement: str, *values: object) -> None:
    async with asyncio.timeout(10):
        while not await engine.deployment.rows(statement, *values):
            await asyncio.sleep(0.02)


async def test_an_ending_that_takes_longer_than_the_action_may_is_no_reason_to_call_it_again(engine: Engine) -> None:
    step = Step(action="echo", name="one", retry_policy=QUICK, timeout_seconds=1)
    async with engine.worker():
        event_id = await engine.fire([step, Step(action="hang", name="never", is_enabled=False)])
        await engine.actions.entered("one")
        async with locked(
            engine, "SELECT FROM invocations WHERE event_id = %s AND step_name = 'one' FOR UPDATE", event_id
        ):
            await asyncio.sleep(7)  # past the second the action may take and the five behind it

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert engine.actions.steps() == ["one"]
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "SUCCEEDED"]


async def test_a_request_to_cancel_while_an_event_closes_does_not_keep_it_open(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([Step(action="echo", name="one")])
        async with locked(engine, "SELECT FROM events WHERE id = %s FOR UPDATE", event_id):
            await until(engine, "SELECT 1 FROM invocations WHERE event_id = %s AND ended_at IS NOT NULL", event_id)
            await asyncio.sleep(0.5)  # the workflow has begun to close
            await engine.handle(event_id).cancel()
            await asyncio.sleep(0.5)

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert (await engine.handle(event_id).describe()).status is WorkflowExecutionStatus.COMPLETED
    assert (await engine.deployment.event(event_id))["closed_by"] == "workflow"


class _Broken(InProcess):
    async def evaluate_template(self, value: Any, variables: Mapping[str, Any]) -> Any:
        raise ZeroDivisionError("a fault of core's own")


async def test_a_fault_of_core_counts_like_any_other(engine: Engine) -> None:
    engine.evaluator = _Broken()
    policy = {**QUICK, "max_attempts": 2}

    event_id, status = await engine.run([Step(action="echo", name="one", input={"a": "1"}, retry_policy=policy)])

    assert status == "FAILED"
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "RETRYING", "STARTED", "FAILED"]
    assert engine.actions.calls == []


async def test_six_lost_workers_end_the_series_as_failed(engine: Engine) -> None:
    event_id = await engine.fire([Step(action="echo", name="one", retry_policy=QUICK)])
    await engine.deployment.rows(
        """
        INSERT INTO attempts (workflow_run_id, activity_id, temporal_attempt, invocation_id, number, phase, is_lost,
                              started_at, ended_at, worker, plugin_version, code_hash)
        SELECT 'earlier', 'one', n, id, n, 'TIMED_OUT', true, now(), now(), '1@gone', '1.0.0', 'c0de'
        FROM invocations, generate_series(1, 6) n WHERE event_id = %s
        """,
        event_id,
    )
    await engine.deployment.rows("UPDATE invocations SET attempt_number = 6 WHERE event_id = %s", event_id)

    async with engine.worker():
        async with asyncio.timeout(20):
            status = await engine.handle(event_id).result()

    assert status == "FAILED"
    assert await engine.deployment.statuses(event_id) == {"one": "FAILED"}
    assert engine.actions.calls == []


async def test_a_workflow_terminated_in_a_long_back_off_is_closed_at_the_closers_next_turn(engine: Engine) -> None:
    async with engine.worker():
        step = Step(action="flaky", name="one", config={"failures": 9}, retry_policy=_SLOW)
        event_id = await engine.fire([step])
        await until(engine, "SELECT 1 FROM invocations WHERE event_id = %s AND status = 'RETRYING'", event_id)
        await engine.handle(event_id).terminate("by hand")
        async with asyncio.timeout(10):
            while await engine.closer.run_once() == 0:
                await asyncio.sleep(0.1)  # Temporal's list lags behind its history

    event = await engine.deployment.event(event_id)
    assert (event["status"], event["closed_by"]) == ("FAILED", "closer")
    assert "terminated" in event["closed_reason"]
    await engine.deployment.check_accounts(event_id)


async def test_expressions_do_not_make_a_workflow_too_large_for_temporal(engine: Engine) -> None:
    literal = "'" + "x" * 4000 + "'"
    values = {str(number): literal for number in range(175)}
    steps = [Step(action="count", name=f"s{n}", input={"text": "'short'", "rest": values}) for n in range(4)]

    event_id, status = await engine.run(steps)

    assert status == "SUCCEEDED"
    assert len(await engine.deployment.statuses(event_id)) == 4


class _Counting(InProcess):
    """Is away once, then counts what it is asked."""

    def __init__(self) -> None:
        self.failures = 1
        self.asked = 0

    async def evaluate(self, source: str, variables: Mapping[str, Any]) -> Any:
        if self.failures:
            self.failures -= 1
            raise UnavailableError("the evaluator did not start")
        self.asked += 1
        return await super().evaluate(source, variables)


async def test_whether_a_step_runs_is_asked_once_and_again_only_while_nobody_could_answer(engine: Engine) -> None:
    engine.evaluator = counting = _Counting()
    step = Step(action="flaky", name="one", config={"failures": 1}, when="1 == 1", retry_policy=QUICK)

    event_id, status = await engine.run([step])

    assert status == "SUCCEEDED"
    assert counting.asked == 1
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "RETRYING", "STARTED", "SUCCEEDED"]


async def test_a_recorded_success_is_adopted_by_a_worker_without_the_plugin(engine: Engine) -> None:
    event_id = await engine.fire([Step(action="echo", name="one")])
    invocation_id = (await engine.deployment.steps(event_id))["one"]["id"]
    await engine.deployment.rows(
        "UPDATE invocations SET status = 'SUCCEEDED', ended_at = now(), output_sealed = %s WHERE id = %s",
        engine.deployment.keyring.seal_json({"kept": True}, places.invocation_output(invocation_id)),
        invocation_id,
    )

    async with engine.worker(registry=Registry.union([])):
        async with asyncio.timeout(10):
            status = await engine.handle(event_id).result()

    assert status == "SUCCEEDED"
    assert engine.actions.calls == []

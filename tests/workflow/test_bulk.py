"""Operations on many events: each once, at a rate, whoever dies."""

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio import activity
from temporalio.client import WorkflowExecutionStatus
from temporalio.testing import ActivityEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from latchflow.names import BULK_WORKFLOW, CONTINUE_BULK, bulk_workflow_id
from latchflow.store import bulk as operations
from latchflow.store.bulk import Bulk
from latchflow.temporal.dispatch import Dispatcher, Firing
from tests.support.execution import Starts, Step
from tests.workflow.conftest import KeepHistory
from tests.workflow.engine import Engine
from workflows import CORE_WORKFLOWS

_ECHO = [Step(action="echo", name="one")]
_ALL: Mapping[str, Any] = {"from": "start", "definitions": "now"}


async def _many(engine: Engine, count: int, *, close: bool = True) -> list[UUID]:
    """Events of one trigger that nobody starts, closed as cancelled."""
    trigger_id = await engine.deployment.define(_ECHO)
    dispatcher = Dispatcher(engine.deployment.database, engine.deployment.keyring, Starts())
    accepted = [await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={"n": n})) for n in range(count)]
    await dispatcher.close()
    if close:
        await engine.deployment.rows("UPDATE invocations SET status = 'FAILED', ended_at = now()")
        await engine.deployment.rows("UPDATE runs SET status = 'FAILED', closed_at = now()")
        await engine.deployment.rows("UPDATE events SET status = 'FAILED', closed_at = now()")
    return [one.event_id for one in accepted]


async def _begin(engine: Engine, operation: Any, *, rate: float = 100, **wanted: Any) -> Bulk:
    return await engine.bulk.begin(
        operation,
        wanted,
        options=_ALL if operation == "rerun" else {},
        limits=None,
        rate_per_second=rate,
        actor="ada",
    )


async def _finished(engine: Engine, bulk_id: UUID, *, seconds: float = 60) -> Bulk:
    async with asyncio.timeout(seconds):
        while True:
            found = await _read(engine, bulk_id)
            if found.finished_at is not None:
                return found
            await asyncio.sleep(0.05)


async def _read(engine: Engine, bulk_id: UUID) -> Bulk:
    async with engine.deployment.database.connection() as connection:
        found = await operations.get(connection, bulk_id)
    assert found is not None
    return found


async def _rerun_of(engine: Engine) -> list[UUID]:
    rows = await engine.deployment.rows("SELECT rerun_of FROM events WHERE rerun_of IS NOT NULL ORDER BY fired_at, id")
    return [row["rerun_of"] for row in rows]


async def test_every_matching_event_is_run_again_once_the_oldest_first_and_none_of_the_new_ones(
    engine: Engine, keep_history: KeepHistory
) -> None:
    old = await _many(engine, 12)
    async with engine.core_worker():
        begun = await _begin(engine, "rerun", status="FAILED")
        done = await _finished(engine, begun.id)
        await engine.client.get_workflow_handle(bulk_workflow_id(begun.id)).result()
    await keep_history("bulk", bulk_workflow_id(begun.id))

    assert (done.status, done.total, done.done, done.failed) == ("SUCCEEDED", 12, 12, 0)
    assert await _rerun_of(engine) == old
    entries = await engine.deployment.rows(
        "SELECT actor FROM audit_entries WHERE detail ->> 'bulkId' = %s", str(begun.id)
    )
    assert [entry["actor"] for entry in entries] == ["ada"] * 12
    whole = await engine.deployment.rows(
        "SELECT detail FROM audit_entries WHERE detail ->> 'object' = 'bulk' ORDER BY seq"
    )
    assert [entry["detail"]["operation"] for entry in whole] == ["begin", "end"]
    assert whole[1]["detail"]["done"] == 12


async def test_the_rate_holds_over_a_restart_and_for_two_workers_at_once(engine: Engine) -> None:
    await _many(engine, 20)
    begun = await _begin(engine, "rerun", rate=10)
    async with engine.core_worker():
        async with asyncio.timeout(20):
            while (await _read(engine, begun.id)).done < 5:
                await asyncio.sleep(0.02)
    async with engine.core_worker():
        # As a worker that was frozen: Temporal has given its attempt up, and it goes on all the same.
        await ActivityEnvironment().run(engine.bulk_activities().continue_bulk, begun.id)
        await _finished(engine, begun.id)

    rows = await engine.deployment.rows(
        "SELECT timestamp FROM audit_entries WHERE detail ->> 'bulkId' = %s ORDER BY timestamp", str(begun.id)
    )
    times = [row["timestamp"].timestamp() for row in rows]
    assert len(times) == 20
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) > 0.05  # 0.1 from take to take; the entry is written a little later
    assert times[-1] - times[0] > 0.1 * 19 * 0.95


async def test_two_takers_at_once_take_no_event_twice(engine: Engine) -> None:
    old = await _many(engine, 40)
    begun = await _begin(engine, "rerun", rate=100)
    activities = [engine.bulk_activities() for _ in range(4)]

    await asyncio.gather(*(ActivityEnvironment().run(one.continue_bulk, begun.id) for one in activities))

    done = await _read(engine, begun.id)
    assert (done.status, done.done) == ("SUCCEEDED", 40)
    assert sorted(await _rerun_of(engine)) == sorted(old)


async def test_open_events_are_cancelled_and_closed_ones_left_alone(engine: Engine) -> None:
    await _many(engine, 3)
    waiting = await _many(engine, 4, close=False)
    await engine.deployment.rows("UPDATE events SET start_confirmed_at = NULL WHERE closed_at IS NULL")
    async with engine.core_worker():
        begun = await _begin(engine, "cancel")
        done = await _finished(engine, begun.id)

    assert (done.status, done.total, done.done) == ("SUCCEEDED", 4, 4)
    for event_id in waiting:
        assert (await engine.deployment.event(event_id))["status"] == "CANCELLED"
    statuses = await engine.deployment.rows("SELECT status, count(*) AS n FROM events GROUP BY status ORDER BY status")
    assert [(row["status"], row["n"]) for row in statuses] == [("CANCELLED", 4), ("FAILED", 3)]


async def test_an_event_that_cannot_be_taken_is_counted_and_the_others_go_on(engine: Engine) -> None:
    old = await _many(engine, 4)
    await engine.deployment.rows("UPDATE events SET context_sealed = 'broken' WHERE id = %s", old[1])
    await engine.deployment.rows("UPDATE events SET manifest = '{}' WHERE id = %s", old[2])
    async with engine.core_worker():
        begun = await _begin(engine, "rerun")
        done = await _finished(engine, begun.id)

    assert (done.status, done.total, done.done, done.failed) == ("PARTIAL_FAILURE", 4, 2, 2)
    assert str(old[2]) in (done.last_error or "")
    assert await _rerun_of(engine) == [old[0], old[3]]


async def test_an_operation_whose_workflow_was_terminated_is_ended_with_the_reason(engine: Engine) -> None:
    await _many(engine, 2)
    begun = await _begin(engine, "rerun")
    await engine.client.get_workflow_handle(bulk_workflow_id(begun.id)).terminate("an operator stops it")

    await engine.bulk.look_after()

    ended = await _read(engine, begun.id)
    assert (ended.status, ended.total, ended.done) == ("FAILED", 2, 0)
    assert "was terminated" in (ended.last_error or "")


async def test_what_temporal_was_not_told_of_is_started_by_the_chore_once(engine: Engine) -> None:
    await _many(engine, 1)
    begun = await _begin(engine, "rerun")
    await engine.deployment.rows("UPDATE bulk_operations SET start_confirmed_at = NULL, status = 'PENDING'")

    await engine.bulk.start_waiting()

    assert (await _read(engine, begun.id)).status == "RUNNING"
    description = await engine.client.get_workflow_handle(bulk_workflow_id(begun.id)).describe()
    assert description.status is WorkflowExecutionStatus.RUNNING


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_an_operation_goes_on_as_new_before_its_history_grows_large(engine: Engine) -> None:
    turns = 0

    @activity.defn(name=CONTINUE_BULK)
    async def go_on(_: UUID) -> bool:
        nonlocal turns
        turns += 1
        return turns == 750

    bulk_id = uuid4()
    worker = Worker(
        engine.client,
        task_queue=f"core {bulk_id}",
        workflows=CORE_WORKFLOWS,
        activities=[go_on],
        workflow_runner=UnsandboxedWorkflowRunner(),
    )
    async with worker:
        begun = await engine.client.start_workflow(
            BULK_WORKFLOW, bulk_id, id=bulk_workflow_id(bulk_id), task_queue=f"core {bulk_id}"
        )
        first_run = (await begun.describe()).run_id
        await begun.result()

    last = await engine.client.get_workflow_handle(bulk_workflow_id(bulk_id)).describe()
    assert turns == 750
    assert last.run_id != first_run
    assert last.history_length < 5_000

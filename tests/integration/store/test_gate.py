"""The gate on a real PostgreSQL, with two processes' dispatchers and a starter that does as it is told."""

import asyncio
from uuid import UUID

import pytest
from temporalio.service import RPCError, RPCStatusCode

from latchflow.model import InvocationStatus
from latchflow.store import events, gates
from latchflow.temporal.closing import cancel_waiting, close_event
from latchflow.temporal.dispatch import Firing
from tests.support.execution import Step
from tests.support.gate import Gate

_AWAY = RPCError("away", RPCStatusCode.UNAVAILABLE, b"")


async def test_twenty_firings_at_once_of_a_trigger_that_skips_start_exactly_one(gate: Gate) -> None:
    fired = await gate.fire_at_once(await gate.trigger("skip"), 20)

    assert sorted(await gate.states(fired)) == ["IGNORED"] * 19 + ["RUNNING"]
    assert len(gate.starts.started) == 1
    skipped = await gate.deployment.event(next(e for e in fired if e != gate.starts.started[0]))
    assert (skipped["closed_by"], skipped["workflow_id"]) == ("dispatch", None)
    assert "overlap: skip" in skipped["closed_reason"]
    assert (skipped["gate_verdict"], skipped["gate_reason"]) == ("skip", "skip")
    rows = await gate.deployment.rows(
        "SELECT detail FROM audit_entries WHERE trigger_event_id = %s AND phase = 'SUCCEEDED'", skipped["id"]
    )
    assert [row["detail"] for row in rows] == [{"gate": {"verdict": "skip", "reason": "skip"}}]


async def test_a_trigger_that_skips_runs_again_when_its_event_has_ended(gate: Gate) -> None:
    trigger_id = await gate.trigger("skip")
    (first,) = await gate.fire(trigger_id)
    await gate.end(first)

    assert await gate.states(await gate.fire(trigger_id)) == ["RUNNING"]


async def test_buffer_one_leaves_one_waiting_and_skips_the_others(gate: Gate) -> None:
    fired = await gate.fire_at_once(await gate.trigger("buffer_one"), 20)

    assert sorted(await gate.states(fired)) == ["IGNORED"] * 18 + ["RUNNING", "WAITING"]


async def test_never_more_than_may_run_at_once_and_the_others_in_the_order_they_came(gate: Gate) -> None:
    trigger_id = await gate.trigger(max_running_events=2)
    fired = await gate.fire(trigger_id, 7)
    assert await gate.states(fired) == ["RUNNING"] * 2 + ["WAITING"] * 5

    for number, event_id in enumerate(fired):
        await gate.end(event_id)
        await gate.turn()
        running = (await gate.states(fired)).count("RUNNING")
        assert running == min(2, len(fired) - number - 1)
    assert gate.starts.started == fired


async def test_many_firings_and_endings_at_once_never_let_in_more_than_may_run(gate: Gate) -> None:
    trigger_id = await gate.trigger(max_running_events=2)
    most, over = 0, asyncio.Event()

    async def watch() -> None:
        nonlocal most
        while not over.is_set():
            rows = await gate.deployment.rows(
                "SELECT count(*) AS n FROM events WHERE trigger_id = %s AND closed_at IS NULL AND NOT is_waiting",
                trigger_id,
            )
            most = max(most, rows[0]["n"])

    async def end_what_runs() -> None:
        ended: set[UUID] = set()
        async with asyncio.timeout(30):
            while len(ended) < 40:
                for event_id in set(gate.starts.started) - ended:
                    await gate.end(event_id)
                    ended.add(event_id)
                await asyncio.sleep(0)

    watching = asyncio.create_task(watch())
    await asyncio.gather(gate.fire_at_once(trigger_id, 40), end_what_runs())
    over.set()
    await watching

    assert most == 2
    assert len(gate.starts.started) == len(set(gate.starts.started)) == 40


async def test_an_event_that_ends_starts_the_next_at_once(gate: Gate) -> None:
    first, second = await gate.fire(await gate.trigger(max_running_events=1), 2)
    await gate.end(first)

    assert gate.starts.started == [first, second]
    event = await gate.deployment.event(second)
    assert (event["gate_verdict"], event["gate_reason"]) == ("wait", "max_running_events")
    assert event["released_at"] is not None
    await gate.end(second)
    await gate.deployment.check_accounts(second)


async def test_what_is_let_in_and_not_started_is_started_by_the_drainer(gate: Gate) -> None:
    first, second = await gate.fire(await gate.trigger(max_running_events=1), 2)
    # Killed between the commit of the closing and the start of what it let in.
    await close_event(gate.deployment.database, first, outcomes={}, closed_by="workflow")
    assert gate.starts.started == [first]

    assert await gate.dispatchers[0].drain(older_than_seconds=60) == 0
    assert await gate.dispatchers[0].drain(older_than_seconds=0) == 1
    assert gate.starts.started == [first, second]


async def test_a_closing_that_is_not_committed_lets_nobody_in(gate: Gate) -> None:
    first, second = await gate.fire(await gate.trigger(max_running_events=1), 2)
    async with gate.deployment.database.connection() as connection, connection.transaction(force_rollback=True):
        trigger_id = await gates.hold_of_event(connection, first)
        assert trigger_id is not None
        await connection.execute("UPDATE events SET closed_at = now() WHERE id = %s", (first,))
        assert [manifest.event_id for manifest in await gates.release(connection, trigger_id)] == [second]
    assert await gate.states([first, second]) == ["RUNNING", "WAITING"]

    await gate.end(first)
    assert gate.starts.started == [first, second]


async def test_what_somebody_forgot_to_let_in_is_let_in_by_the_chore(gate: Gate) -> None:
    first, second = await gate.fire(await gate.trigger(max_running_events=1), 2)
    await gate.deployment.rows("UPDATE events SET closed_at = now(), status = 'FAILED' WHERE id = %s", first)

    assert (await gate.turn(), await gate.turn()) == (1, 0)
    assert gate.starts.started == [first, second]


async def test_the_drainer_and_the_numbers_of_health_leave_out_what_waits(gate: Gate) -> None:
    await gate.fire(await gate.trigger(max_running_events=1), 4)
    await gate.deployment.rows("UPDATE events SET fired_at = fired_at - interval '1 hour'")

    assert await gate.dispatchers[0].drain(older_than_seconds=0) == 0
    async with gate.deployment.database.connection() as connection:
        assert await events.count_unstarted(connection) == 0
        assert await gates.count_waiting(connection) == 3


async def test_cancel_other_asks_for_the_end_of_the_old_and_starts_the_new_when_it_has_come(gate: Gate) -> None:
    trigger_id = await gate.trigger("cancel_other")
    (old,) = await gate.fire(trigger_id)
    (new,) = await gate.fire(trigger_id)
    assert gate.starts.cancelled == [old]
    assert await gate.states([old, new]) == ["RUNNING", "WAITING"]
    assert await gate.dispatchers[0].cancel_due() == 0, "it was asked for"

    await gate.end(old)
    assert gate.starts.started == [old, new]


async def test_cancel_other_closes_what_waited_before(gate: Gate) -> None:
    trigger_id = await gate.trigger("cancel_other")
    fired = await gate.fire(trigger_id, 4)

    assert await gate.states(fired) == ["RUNNING", "CANCELLED", "CANCELLED", "WAITING"]
    closed = await gate.deployment.event(fired[1])
    assert "cancel_other" in closed["closed_reason"]
    await gate.deployment.check_accounts(fired[1])
    await gate.end(fired[0])
    assert gate.starts.started == [fired[0], fired[3]]


async def test_a_cancellation_wanted_while_temporal_is_away_is_asked_for_when_it_is_back(gate: Gate) -> None:
    trigger_id = await gate.trigger("cancel_other")
    (old,) = await gate.fire(trigger_id)
    gate.starts.failure = _AWAY
    (new,) = await gate.fire(trigger_id)
    assert await gate.dispatchers[1].cancel_due() == 0
    assert await gate.states([old, new]) == ["RUNNING", "WAITING"]

    gate.starts.failure = None
    assert await gate.dispatchers[1].cancel_due() == 1
    assert gate.starts.cancelled == [old]


async def test_many_that_wait_are_cancelled_bit_by_bit_and_the_newest_is_not_held_up(gate: Gate) -> None:
    trigger_id = await gate.trigger()
    await gate.pause(is_paused=True)
    many = await gate.fire(trigger_id, 60)
    await gate.pause(is_paused=False)
    await gate.rule(trigger_id, "cancel_other")
    (newest,) = await gate.fire(trigger_id)
    assert gate.starts.started == [newest]

    assert (await gate.states(many)).count("CANCELLED") == 50
    assert await gate.turn() == 0, "what is to be cancelled is not let in"
    assert (await gate.dispatchers[0].cancel_due(), await gate.dispatchers[0].cancel_due()) == (10, 0)
    assert await gate.states(many) == ["CANCELLED"] * 60


async def test_an_event_that_was_never_started_is_cancelled_without_being_started(gate: Gate) -> None:
    trigger_id = await gate.trigger("cancel_other")
    gate.starts.failure = _AWAY
    old, new = await gate.fire(trigger_id, 2)
    gate.starts.failure = None
    assert await gate.dispatchers[0].drain(older_than_seconds=0) == 0, "it is to be cancelled"

    assert await gate.dispatchers[0].cancel_due() == 1
    await gate.settle()
    assert await gate.states([old, new]) == ["CANCELLED", "RUNNING"]
    assert gate.starts.started == [new]


async def test_an_event_that_waits_can_be_cancelled_without_a_workflow(gate: Gate) -> None:
    first, second, third = await gate.fire(await gate.trigger(max_running_events=1), 3)
    async with gate.deployment.database.transaction() as connection:
        assert await cancel_waiting(connection, second, reason="cancelled by ada")
    async with gate.deployment.database.transaction() as connection:
        assert not await cancel_waiting(connection, second)
    async with gate.deployment.database.transaction() as connection:
        assert not await cancel_waiting(connection, first), "its turn has come"

    event = await gate.deployment.event(second)
    assert (event["status"], event["closed_reason"]) == ("CANCELLED", "cancelled by ada")
    assert await gate.deployment.statuses(second) == {"one": "CANCELLED", "two": "CANCELLED"}
    await gate.deployment.check_accounts(second)
    await gate.end(first)
    assert gate.starts.started == [first, third]


async def test_cancelling_and_letting_in_at_once_end_one_way_or_the_other(gate: Gate) -> None:
    trigger_id = await gate.trigger(max_running_events=1)

    async def cancel(event_id: UUID) -> bool:
        async with gate.deployment.database.transaction() as connection:
            return await cancel_waiting(connection, event_id)

    for _ in range(10):
        first, second = await gate.fire(trigger_id, 2)
        _, is_cancelled = await asyncio.gather(gate.end(first), cancel(second))
        assert await gate.states([second]) == ["CANCELLED" if is_cancelled else "RUNNING"]
        assert (second in gate.starts.started) is not is_cancelled
        await gate.end(second)


@pytest.mark.parametrize("change", ["disabled", "loosened", "deleted"])
async def test_what_waits_goes_on_when_its_trigger_is_changed(gate: Gate, change: str) -> None:
    trigger_id = await gate.trigger(max_running_events=1)
    first, second, third = await gate.fire(trigger_id, 3)
    if change == "disabled":
        await gate.deployment.rows("UPDATE trigger_definitions SET is_enabled = false WHERE id = %s", trigger_id)
        await gate.end(first)
        await gate.end(second)
    elif change == "loosened":
        await gate.rule(trigger_id, max_running_events=3)
        assert await gate.turn() == 2
    else:
        await gate.deployment.rows("DELETE FROM pipeline_triggers WHERE trigger_id = %s", trigger_id)
        await gate.deployment.rows("DELETE FROM trigger_definitions WHERE id = %s", trigger_id)
        await gate.end(first)
        assert await gate.turn() == 2

    assert gate.starts.started == [first, second, third]


async def test_what_waits_under_a_rule_that_became_stricter_goes_on_one_after_the_other(gate: Gate) -> None:
    trigger_id = await gate.trigger(max_running_events=2)
    fired = await gate.fire(trigger_id, 4)
    await gate.rule(trigger_id, "skip")
    await gate.end(fired[0])
    assert (await gate.states(fired)).count("WAITING") == 2, "the second still runs"
    await gate.end(fired[1])
    assert (await gate.states(fired)).count("WAITING") == 1

    await gate.end(fired[2])
    assert gate.starts.started == fired


async def test_a_duplicate_is_no_event_for_the_gate(gate: Gate) -> None:
    trigger_id = await gate.trigger("skip")
    firing = Firing(trigger_id=trigger_id, context={}, key="one")
    answers = await asyncio.gather(*(gate.dispatchers[n % 2].dispatch(firing) for n in range(10)))
    await gate.settle()

    assert len({answer.event_id for answer in answers}) == 1
    assert await gate.states([answers[0].event_id]) == ["RUNNING"]


async def test_events_of_a_trigger_without_a_pipeline_take_nobodys_place(gate: Gate) -> None:
    trigger_id = await gate.deployment.define()
    await gate.rule(trigger_id, "skip")
    fired = await gate.fire(trigger_id, 2)

    assert await gate.states(fired) == ["IGNORED", "IGNORED"]
    assert (await gate.deployment.event(fired[1]))["gate_verdict"] is None


async def test_a_disabled_step_of_a_waiting_event_that_is_cancelled_stays_skipped(gate: Gate) -> None:
    steps = [Step(action="do", name="off", is_enabled=False), Step(action="do", name="on")]
    trigger_id = await gate.deployment.define(steps)
    await gate.rule(trigger_id, max_running_events=1)
    _, waiting = await gate.fire(trigger_id, 2)
    async with gate.deployment.database.transaction() as connection:
        await cancel_waiting(connection, waiting)

    statuses = await gate.deployment.statuses(waiting)
    assert statuses == {"off": InvocationStatus.SKIPPED, "on": InvocationStatus.CANCELLED}

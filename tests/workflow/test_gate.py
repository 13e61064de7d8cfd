"""The gate with a real Temporal: what waits starts, what is replaced is cancelled, what lacks a worker says so."""

import asyncio
import statistics
import time
from itertools import pairwise
from typing import Any
from uuid import UUID

from latchflow.model import InvocationStatus
from latchflow.store import event_documents, pause
from latchflow.temporal.closing import close_event
from latchflow.temporal.dispatch import Firing
from latchflow.temporal.gatekeeper import Gatekeeper
from tests.support.execution import Step
from tests.workflow.engine import Engine

_ECHO = Step(action="echo", name="one")
_HANG = Step(action="hang", name="one")


async def trigger_of(
    engine: Engine, *steps: Step, overlap: str = "allow_all", max_running_events: int | None = None
) -> UUID:
    trigger_id = await engine.deployment.define(steps)
    await engine.deployment.rows(
        "UPDATE trigger_definitions SET overlap = %s, max_running_events = %s WHERE id = %s",
        overlap,
        max_running_events,
        trigger_id,
    )
    return trigger_id


async def fire(engine: Engine, trigger_id: UUID) -> UUID:
    return (await engine.dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}))).event_id


async def until_ended(engine: Engine, event_ids: list[UUID], seconds: float = 20) -> list[str]:
    """The statuses of events that do not all have a workflow yet."""
    async with asyncio.timeout(seconds):
        while True:
            rows = await engine.deployment.rows(
                "SELECT status FROM events WHERE id = ANY(%s) AND closed_at IS NOT NULL", event_ids
            )
            if len(rows) == len(event_ids):
                break
            await asyncio.sleep(0.02)
    for event_id in event_ids:
        await engine.deployment.check_accounts(event_id)
    return [(await engine.deployment.event(event_id))["status"] for event_id in event_ids]


async def document(engine: Engine, event_id: UUID) -> dict[str, Any]:
    async with engine.deployment.database.connection() as connection:
        return await event_documents.get_event(connection, engine.deployment.keyring, event_id, limits=None)


async def waiting_for(engine: Engine, event_id: UUID) -> dict[str, str | None]:
    event = await document(engine, event_id)
    return {row["step_name"]: row["waiting_for"] for run in event["runs"] for row in run["invocations"]}


async def test_events_of_a_trigger_follow_each_other_without_anyone_else_to_start_them(engine: Engine) -> None:
    """Neither drainer nor chore runs here: the worker that closes an event starts the next."""
    trigger_id = await trigger_of(engine, _ECHO, max_running_events=1)
    async with engine.worker():
        fired = [await fire(engine, trigger_id) for _ in range(6)]
        assert await until_ended(engine, fired) == ["SUCCEEDED"] * 6

    rows = await engine.deployment.rows(
        """
        SELECT e.id, a.started_at, a.ended_at FROM attempts a
        JOIN invocations i ON i.id = a.invocation_id JOIN events e ON e.id = i.event_id ORDER BY a.started_at
        """
    )
    assert [row["id"] for row in rows] == fired
    assert all(one["ended_at"] <= two["started_at"] for one, two in pairwise(rows))


async def test_never_more_than_may_run_at_once(engine: Engine) -> None:
    trigger_id = await trigger_of(engine, _ECHO, Step(action="echo", name="two", sort_order=1), max_running_events=2)
    async with engine.worker():
        fired = list(await asyncio.gather(*(fire(engine, trigger_id) for _ in range(12))))
        assert await until_ended(engine, fired) == ["SUCCEEDED"] * 12

    spans = await engine.deployment.rows(
        "SELECT coalesce(released_at, fired_at) AS began, closed_at AS ended FROM events WHERE trigger_id = %s",
        trigger_id,
    )
    # An event that ends and the one it lets in have their times from the same transaction, in either order.
    inside = [sum(other["began"] < span["began"] < other["ended"] for other in spans) for span in spans]
    rows = await engine.deployment.rows(
        """
        SELECT max((SELECT count(DISTINCT j.event_id) FROM attempts b JOIN invocations j ON j.id = b.invocation_id
                    WHERE b.started_at <= a.started_at AND b.ended_at > a.started_at)) AS most FROM attempts a
        """
    )
    assert max(inside) <= 2
    assert rows[0]["most"] <= 2


async def test_cancel_other_ends_the_old_as_cancelled_and_the_new_runs(engine: Engine) -> None:
    trigger_id = await trigger_of(engine, _HANG, overlap="cancel_other")
    async with engine.worker():
        old = await fire(engine, trigger_id)
        await engine.actions.entered("one")
        new = await fire(engine, trigger_id)
        assert (await document(engine, new))["gate"]["reason"] == "cancel_other"

        assert await engine.finish(old) == "CANCELLED"
        await engine.actions.entered("one")
        newest = await fire(engine, trigger_id)
        assert await engine.finish(new) == "CANCELLED"
        await engine.actions.entered("one")
        await engine.handle(newest).cancel()
        assert await engine.finish(newest) == "CANCELLED"


async def test_an_event_that_waits_says_so_and_has_no_workflow(engine: Engine) -> None:
    trigger_id = await trigger_of(engine, _HANG, max_running_events=1)
    async with engine.worker():
        first = await fire(engine, trigger_id)
        await engine.actions.entered("one")
        second = await fire(engine, trigger_id)

        event = await document(engine, second)
        assert (event["status"], event["gate"]["verdict"], event["gate"]["released_at"]) == ("PENDING", "wait", None)
        assert await waiting_for(engine, second) == {"one": "turn"}
        assert await waiting_for(engine, first) == {"one": None}
        await engine.handle(first).cancel()
        await engine.actions.entered("one")
        assert (await document(engine, second))["gate"]["released_at"] is not None
        await engine.handle(second).cancel()
        assert await engine.finish(second) == "CANCELLED"


async def test_what_waited_for_the_end_of_a_pause_runs(engine: Engine) -> None:
    trigger_id = await trigger_of(engine, _ECHO)
    keeper = Gatekeeper(engine.deployment.database, engine.dispatcher.start_soon)
    async with engine.worker():
        async with engine.deployment.database.transaction() as connection:
            await pause.change(connection, is_paused=True, reason=None, actor="ada")
        fired = [await fire(engine, trigger_id) for _ in range(3)]
        assert await keeper.run_once() == 0
        async with engine.deployment.database.transaction() as connection:
            await pause.change(connection, is_paused=False, reason=None, actor="ada")
        assert await keeper.run_once() == 3

        assert await until_ended(engine, fired) == ["SUCCEEDED"] * 3


async def test_with_all_slots_held_a_new_event_is_open_and_says_that_it_lacks_a_worker(engine: Engine) -> None:
    steps = [_ECHO, Step(action="echo", name="beside"), Step(action="echo", name="after", sort_order=1)]
    trigger_id = await trigger_of(engine, *steps)
    async with engine.worker(max_concurrent_activities=2):
        holding = [await engine.fire([Step(action="hang", name="hold")]) for _ in range(2)]
        for _ in holding:
            await engine.actions.entered("hold")

        seconds = []
        for _ in range(5):
            began = time.monotonic()
            event_id = await fire(engine, trigger_id)
            while (event := await document(engine, event_id))["status"] != "RUNNING":
                await asyncio.sleep(0.01)
            seconds.append(time.monotonic() - began)

        assert statistics.median(seconds) < 1, seconds
        assert event["runs"][0]["status"] == "RUNNING"
        assert await waiting_for(engine, event_id) == {"one": "capacity", "beside": "capacity", "after": None}
        for held in holding:
            await engine.handle(held).cancel()
        assert await engine.finish(event_id) == "SUCCEEDED"
        assert await waiting_for(engine, event_id) == {"one": None, "beside": None, "after": None}


async def test_an_event_killed_by_terminating_its_workflow_lets_the_next_in(engine: Engine) -> None:
    trigger_id = await trigger_of(engine, _HANG, max_running_events=1)
    async with engine.worker():
        first = await fire(engine, trigger_id)
        await engine.actions.entered("one")
        second = await fire(engine, trigger_id)
        await engine.handle(first).terminate()
        await engine.age(first)
        assert await engine.closer.run_once() == 1

        await engine.actions.entered("one")
        await engine.handle(second).cancel()
        assert await engine.finish(second) == "CANCELLED"


async def test_a_workflow_that_starts_after_its_event_was_cancelled_calls_no_action(engine: Engine) -> None:
    """Whoever cancels an event that has no workflow yet may be overtaken by whoever starts it."""
    trigger_id = await trigger_of(engine, _ECHO, Step(action="echo", name="two", sort_order=1))
    event_id = await fire(engine, trigger_id)
    await engine.dispatcher.close()
    await close_event(
        engine.deployment.database, event_id, outcomes={}, closed_by="dispatch", default=InvocationStatus.CANCELLED
    )
    async with engine.worker():
        assert await engine.finish(event_id) == "CANCELLED"
    assert engine.actions.calls == []

"""Cancelling events and runs, whatever state they are in and whoever is away."""

import asyncio
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from temporalio.client import Client
from temporalio.service import RPCError

from latchflow.errors import ConflictError, NotFoundError
from latchflow.store import events
from latchflow.temporal.cancelling import Canceller
from latchflow.temporal.dispatch import Dispatcher, Firing
from latchflow.temporal.starting import WorkflowStarter
from tests.support.execution import Step
from tests.workflow.engine import Engine

_HANG = [Step(action="hang", name="one")]


async def _run_ids(engine: Engine, event_id: UUID) -> list[UUID]:
    rows = await engine.deployment.rows("SELECT id FROM runs WHERE event_id = %s ORDER BY ordinal", event_id)
    return [row["id"] for row in rows]


async def _wishes(engine: Engine) -> list[dict[str, Any]]:
    return await engine.deployment.rows("SELECT * FROM cancellations ORDER BY id")


async def _cancellations_audited(engine: Engine) -> list[tuple[str, str]]:
    rows = await engine.deployment.rows(
        "SELECT actor, detail ->> 'object' AS object FROM audit_entries WHERE detail ->> 'operation' = 'cancel'"
    )
    return [(row["actor"], row["object"]) for row in rows]


async def _unconfirmed(engine: Engine) -> UUID:
    """An event that no one has started."""
    trigger_id = await engine.deployment.define([Step(action="echo", name="one")], [Step(action="echo", name="two")])
    nobody = await Client.connect("127.0.0.1:1", lazy=True)
    dispatcher = Dispatcher(engine.deployment.database, engine.deployment.keyring, WorkflowStarter(nobody))
    accepted = await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}))
    await dispatcher.close()
    return accepted.event_id


async def test_a_running_action_is_cancelled_and_cleans_up_and_a_repeat_changes_nothing(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire(_HANG)
        await engine.actions.entered("one")
        await engine.canceller.cancel_event(event_id, actor="ada")
        await engine.canceller.cancel_event(event_id, actor="bob")

        assert await engine.finish(event_id) == "CANCELLED"
    assert engine.actions.cancelled.is_set()
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "CANCELLED"]
    assert await _cancellations_audited(engine) == [("ada", "event")]
    with pytest.raises(ConflictError, match="closed already: CANCELLED"):
        await engine.canceller.cancel_event(event_id, actor="ada")


async def test_an_event_without_an_id_of_ours_is_not_found(engine: Engine) -> None:
    event_id = await engine.deployment.open_event([Step(action="echo", name="one")])
    with pytest.raises(NotFoundError):
        await engine.canceller.cancel_event(uuid4(), actor="ada")
    with pytest.raises(NotFoundError):
        await engine.canceller.cancel_run(event_id, uuid4(), actor="ada")


@pytest.mark.parametrize("pipelines", [2, 5], ids=["undivided", "divided"])
async def test_a_cancelled_run_leaves_the_others_alone(engine: Engine, pipelines: int) -> None:
    others = [[Step(action="echo", name="one")]] * (pipelines - 1)
    async with engine.worker():
        event_id = await engine.fire(_HANG, *others)
        await engine.actions.entered("one")
        first, second, *_ = await _run_ids(engine, event_id)
        await engine.canceller.cancel_run(event_id, first, actor="ada")

        assert await engine.finish(event_id) == "PARTIAL_FAILURE"
    runs = await engine.deployment.rows("SELECT status FROM runs WHERE event_id = %s ORDER BY ordinal", event_id)
    assert [run["status"] for run in runs] == ["CANCELLED"] + ["SUCCEEDED"] * (pipelines - 1)
    assert engine.actions.cancelled.is_set()
    assert await _cancellations_audited(engine) == [("ada", "run")]
    with pytest.raises(ConflictError, match="closed already"):
        await engine.canceller.cancel_run(event_id, second, actor="ada")


async def test_a_step_that_waits_is_cancelled(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([Step(name="pause", kind="delay", wait={"for": "P30D"})])
        async with asyncio.timeout(10):
            while await engine.deployment.statuses(event_id) != {"pause": "WAITING"}:
                await asyncio.sleep(0.01)
        await engine.canceller.cancel_event(event_id, actor="ada")

        assert await engine.finish(event_id) == "CANCELLED"
    assert await engine.deployment.statuses(event_id) == {"pause": "CANCELLED"}


async def test_an_event_that_was_not_started_closes_without_a_workflow(engine: Engine) -> None:
    event_id = await _unconfirmed(engine)

    await engine.canceller.cancel_event(event_id, actor="ada")

    event = await engine.deployment.event(event_id)
    assert (event["status"], event["closed_by"]) == ("CANCELLED", "operator")
    await engine.deployment.check_accounts(event_id)
    assert await engine.dispatcher.drain(older_than_seconds=0) == 0
    with pytest.raises(RPCError, match="not found"):
        await engine.handle(event_id).describe()


async def test_a_start_that_was_on_its_way_runs_nothing_of_a_cancelled_event(engine: Engine) -> None:
    event_id = await _unconfirmed(engine)
    async with engine.deployment.database.connection() as connection:
        (manifest,) = await events.unstarted(connection, older_than_seconds=0, limit=5)
    await engine.canceller.cancel_event(event_id, actor="ada")
    await engine.canceller.close()

    await WorkflowStarter(engine.client).start(manifest)

    async with engine.worker(), asyncio.timeout(20):
        assert await engine.handle(event_id).result() == "CANCELLED"
    assert engine.actions.calls == []
    await engine.deployment.check_accounts(event_id)


async def test_a_run_of_an_event_that_was_not_started_closes_and_the_others_run(engine: Engine) -> None:
    event_id = await _unconfirmed(engine)
    first, _ = await _run_ids(engine, event_id)

    await engine.canceller.cancel_run(event_id, first, actor="ada")

    assert await engine.dispatcher.drain(older_than_seconds=0) == 1
    async with engine.worker():
        assert await engine.finish(event_id) == "PARTIAL_FAILURE"
    assert engine.actions.steps() == ["two"]
    assert await engine.deployment.statuses(event_id) == {"one": "CANCELLED", "two": "SUCCEEDED"}


async def test_a_wish_that_temporal_could_not_be_told_of_is_told_later(engine: Engine) -> None:
    nobody = Canceller(engine.deployment.database, await Client.connect("127.0.0.1:1", lazy=True))
    async with engine.worker():
        event_id = await engine.fire(_HANG)
        await engine.actions.entered("one")
        await nobody.cancel_event(event_id, actor="ada")
        await nobody.close()
        assert [wish["told_at"] for wish in await _wishes(engine)] == [None]

        assert await engine.canceller.tell_all() == 1
        assert await engine.finish(event_id) == "CANCELLED"
    assert await engine.canceller.tell_all() == 0


async def test_a_wish_for_a_workflow_that_is_gone_is_not_told_for_ever(engine: Engine) -> None:
    event_id = await engine.deployment.open_event(_HANG)

    await engine.canceller.cancel_event(event_id, actor="ada")
    await engine.canceller.close()

    assert [wish["told_at"] is not None for wish in await _wishes(engine)] == [True]
    assert (await engine.deployment.event(event_id))["next_check_at"] <= datetime.now(UTC)  # the closer's turn

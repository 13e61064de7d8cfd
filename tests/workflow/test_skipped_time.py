"""Waits of minutes and months, in time that Temporal skips."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from temporalio.service import RPCError
from temporalio.testing import WorkflowEnvironment

from activities import actions, endings, resumption, steps
from latchflow.crypto import Keyring
from latchflow.names import wait_workflow_id
from latchflow.sdk import ActionCall, Pending
from latchflow.temporal import policies
from latchflow.temporal.codec import data_converter
from tests.support.execution import FAKE_KEY, Deployment, Step
from tests.workflow.calling_back import Outside, called_back
from tests.workflow.engine import BEAT, QUICK, Engine


class Clock(datetime):
    """The clock of the workers, which goes on with the time that was skipped."""

    skipped = timedelta()

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime.now(tz) + cls.skipped


class Skipping(Engine):
    """An engine on a server that skips the time of single workflows."""

    def __init__(self, deployment: Deployment, environment: WorkflowEnvironment) -> None:
        super().__init__(deployment, environment.client)
        self.environment = environment

    async def begun(self, invocation_id: UUID) -> None:
        """Wait until a workflow waits with an invocation."""
        handle = self.client.get_workflow_handle(wait_workflow_id(invocation_id))
        async with asyncio.timeout(10):
            while True:
                try:
                    await handle.describe()
                except RPCError:
                    await asyncio.sleep(0.02)
                else:
                    return

    async def skip(self, invocation_id: UUID, time: timedelta) -> None:
        """Let this time pass for the workers, and for the workflow that waits with an invocation."""
        handle = self.client.get_workflow_handle(wait_workflow_id(invocation_id))
        Clock.skipped += time
        await self.environment.fast_forward(handle, time)


@pytest.fixture(scope="module")
async def environment() -> AsyncIterator[WorkflowEnvironment]:
    environment = await WorkflowEnvironment.start_time_skipping_v2(
        data_converter=data_converter(Keyring.from_setting(FAKE_KEY)),
        identity="worker@test",
        dev_server_existing_path=str(Path(sys.executable).with_name("temporal")),
        dev_server_extra_args=["--dynamic-config-value", "frontend.WorkflowTimeSkippingEnabled=true"],
    )
    yield environment
    await environment.shutdown()


@pytest.fixture
async def engine(
    deployment: Deployment, environment: WorkflowEnvironment, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Skipping]:
    monkeypatch.setattr(policies, "HEARTBEAT_INTERVAL", BEAT)
    monkeypatch.setattr(Clock, "skipped", timedelta())
    for module in (actions, endings, resumption, steps):
        monkeypatch.setattr(module, "datetime", Clock)
    engine = Skipping(deployment, environment)
    with environment.with_time_skipping_disabled():
        yield engine
    await engine.dispatcher.close()
    engine.actions.registry.close()


@pytest.fixture
async def outside(engine: Skipping) -> AsyncIterator[Outside]:
    outside = called_back(engine)
    yield outside
    outside.registry.close()


async def test_a_wait_of_thirty_days_through_pending(engine: Skipping, outside: Outside) -> None:
    month = timedelta(days=30)
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([Step(action="ask", name="ask", config={"seconds": month.total_seconds()})])
        row = await outside.until(event_id, "WAITING")
        await engine.begun(row["id"])
        await engine.skip(row["id"], month - timedelta(hours=1))
        early = (await engine.deployment.statuses(event_id))["ask"], outside.seen()
        await engine.skip(row["id"], timedelta(hours=1))

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert early == ("WAITING", [])
    assert outside.seen() == [None]


@pytest.mark.long
async def test_a_callback_after_twenty_nine_days_is_taken_at_once(engine: Skipping, outside: Outside) -> None:
    month = timedelta(days=30)
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([Step(action="ask", name="ask", config={"seconds": month.total_seconds()})])
        row = await outside.until(event_id, "WAITING")
        await engine.begun(row["id"])
        await engine.skip(row["id"], timedelta(days=29))
        await outside.send(outside.urls[0], "at last")

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert outside.seen() == ["at last"]


@pytest.mark.long
async def test_work_of_thirty_minutes_in_rounds_of_three(engine: Skipping, outside: Outside) -> None:
    three = timedelta(minutes=3)

    async def resume(_: ActionCall[Any]) -> Any:
        return {"minutes": Clock.skipped.total_seconds() / 60} if _rounds() == 10 else Pending(check_after=three)

    def _rounds() -> int:
        return len(outside.seen())

    outside.on_resume = resume
    once = {**QUICK, "max_attempts": 1}
    ask = Step(action="ask", name="ask", config={"seconds": three.total_seconds()}, retry_policy=once)
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([ask])
        for done in range(10):
            async with asyncio.timeout(10):
                while _rounds() < done:
                    await asyncio.sleep(0.01)
            row = await outside.until(event_id, "WAITING")
            await engine.begun(row["id"])
            await engine.skip(row["id"], three)

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert await engine.deployment.output(event_id, "ask") == {"minutes": 30}
    assert await engine.deployment.phases(event_id, "ask") == [*["STARTED", "WAITING"] * 10, "STARTED", "SUCCEEDED"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("step", "status"),
    [
        (Step(name="ask", kind="delay", wait={"for": "P30D"}), "SUCCEEDED"),
        (Step(name="ask", kind="approval", wait={"timeout": "P30D", "onTimeout": "reject"}), "FAILED_PERMANENT"),
    ],
    ids=["delay", "approval"],
)
async def test_a_delay_and_an_approval_of_thirty_days(
    engine: Skipping, outside: Outside, step: Step, status: str
) -> None:
    async with engine.worker(registry=outside.registry):
        event_id = await engine.fire([step])
        row = await outside.until(event_id, "WAITING")
        await engine.begun(row["id"])
        await engine.skip(row["id"], timedelta(days=29, hours=23))
        early = (await engine.deployment.statuses(event_id))["ask"]
        await engine.skip(row["id"], timedelta(hours=1))
        await engine.finish(event_id)
    assert early == "WAITING"
    assert await engine.deployment.statuses(event_id) == {"ask": status}

"""A worker whose plugins block, stall, or leave threads behind; and plugins with workers of their own."""

import asyncio
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from types import MappingProxyType
from typing import Any

import pytest

from activities.actions import ActionActivities
from latchflow.names import plugin_task_queue
from latchflow.runtime.isolation.loops import PluginLoop
from latchflow.runtime.isolation.strain import Strain
from latchflow.runtime.lifecycle.registry import LoadedAction, Registry
from latchflow.sdk import ActionCall, Plugin
from latchflow.temporal.dispatch import Dispatcher
from latchflow.temporal.starting import WorkflowStarter
from tests.support.execution import Step
from tests.support.registries import NAME, registry_of
from tests.workflow.conftest import KeepHistory
from tests.workflow.engine import QUICK, Engine

_BLOCKED_SECONDS = 1.0
TIDIED: list[str] = []


def _misbehaving() -> Plugin:
    plugin = Plugin()

    @plugin.action("block", display_name="Block", config_schema={})
    async def block(call: ActionCall[Any]) -> Any:
        if call.invocation.attempt == 1:
            time.sleep(8)
        return {"attempt": call.invocation.attempt}

    @plugin.action("stall", display_name="Stall", config_schema={}, stall_timeout_seconds=1)
    async def stall(call: ActionCall[Any]) -> Any:
        call.heartbeat("begun")
        await asyncio.sleep(60 if call.invocation.attempt == 1 else 0)
        return {}

    @plugin.action("hold", display_name="Hold a thread", config_schema={})
    def hold(call: ActionCall[Any]) -> Any:
        time.sleep(3)

    @plugin.action("tidy", display_name="Clean up", config_schema={})
    async def tidy(call: ActionCall[Any]) -> Any:
        TIDIED.append(f"{call.invocation.attempt} begins")
        is_first = call.invocation.attempt == 1
        try:
            await asyncio.sleep(60 if is_first else 0)
        finally:
            await asyncio.sleep(1 if is_first else 0)
            TIDIED.append(f"{call.invocation.attempt} ends")

    return plugin


def _merged(first: Registry, second: Registry, strain: Strain) -> Registry:
    """Two plugins in one process; the second's actions are called as the first's, and run on a loop of their own."""
    plugin = replace(
        second.plugins[NAME], loop=PluginLoop("misbehaving", blocked_seconds=_BLOCKED_SECONDS, strain=strain)
    )
    actions: Mapping[tuple[str, str], LoadedAction] = {
        **first.actions,
        **{key: replace(action, plugin=plugin) for key, action in second.actions.items()},
    }
    return replace(first, plugins={NAME: plugin}, actions=MappingProxyType(actions))


@pytest.fixture
def strain() -> Strain:
    return Strain()


@pytest.fixture
def registry(engine: Engine, strain: Strain) -> Registry:
    return _merged(engine.actions.registry, registry_of(_misbehaving()), strain)


async def test_while_one_plugin_blocks_twenty_attempts_of_another_succeed_at_the_first_try(
    engine: Engine, registry: Registry, strain: Strain
) -> None:
    async with engine.worker(registry=registry):
        blocking = await engine.fire([Step(action="block", name="one", retry_policy=QUICK)])
        async with asyncio.timeout(10):
            while await engine.deployment.statuses(blocking) != {"one": "RUNNING"}:
                await asyncio.sleep(0.01)
        others = [await engine.fire([Step(action="echo", name="one")]) for _ in range(20)]
        for event_id in others:
            assert await engine.finish(event_id) == "SUCCEEDED"
            assert await engine.deployment.phases(event_id, "one") == ["STARTED", "SUCCEEDED"]

        assert await engine.finish(blocking) == "SUCCEEDED"
    registry.close()
    assert await engine.deployment.output(blocking, "one") == {"attempt": 2}
    assert await engine.deployment.phases(blocking, "one") == ["STARTED", "RETRYING", "STARTED", "SUCCEEDED"]
    (first, _) = await engine.deployment.rows(
        """
        SELECT attempts.error FROM attempts JOIN invocations i ON i.id = invocation_id
        WHERE i.event_id = %s ORDER BY number
        """,
        blocking,
    )
    assert first["error"]["type"] == "PluginBlocked"
    assert "test_isolation.py:" in first["error"]["message"]
    assert strain.report()["replacedLoops"] == 1


async def test_a_stalled_attempt_times_out_counts_and_is_made_again(engine: Engine, registry: Registry) -> None:
    async with engine.worker(registry=registry):
        event_id = await engine.fire([Step(action="stall", name="one", retry_policy=QUICK)])
        assert await engine.finish(event_id) == "SUCCEEDED"
    registry.close()

    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "TIMED_OUT", "STARTED", "SUCCEEDED"]
    (first, _) = await engine.deployment.rows("SELECT error, is_lost, progress FROM attempts ORDER BY number")
    assert (first["error"]["type"], first["is_lost"], first["progress"]) == ("Stalled", False, "begun")


async def test_the_next_attempt_begins_when_the_one_before_has_cleaned_up(engine: Engine, registry: Registry) -> None:
    TIDIED.clear()
    async with engine.worker(registry=registry):
        event_id = await engine.fire([Step(action="tidy", name="one", retry_policy=QUICK, timeout_seconds=1)])
        assert await engine.finish(event_id) == "SUCCEEDED"
    registry.close()

    assert TIDIED == ["1 begins", "1 ends", "2 begins", "2 ends"]
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "TIMED_OUT", "STARTED", "SUCCEEDED"]


async def test_an_event_closes_when_its_cancelled_attempt_has_cleaned_up(engine: Engine, registry: Registry) -> None:
    TIDIED.clear()
    async with engine.worker(registry=registry):
        event_id = await engine.fire([Step(action="tidy", name="one")])
        async with asyncio.timeout(10):
            while TIDIED != ["1 begins"]:
                await asyncio.sleep(0.01)
        await engine.handle(event_id).cancel()
        assert await engine.finish(event_id) == "CANCELLED"

        assert TIDIED == ["1 begins", "1 ends"]
    registry.close()


async def test_a_thread_in_c_outlives_its_cancelled_attempt_and_is_counted(
    engine: Engine, registry: Registry, strain: Strain
) -> None:
    async with engine.worker(registry=registry):
        event_id = await engine.fire([Step(action="hold", name="one")])
        async with asyncio.timeout(10):
            while await engine.deployment.statuses(event_id) != {"one": "RUNNING"}:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        await engine.handle(event_id).cancel()
        assert await engine.finish(event_id) == "CANCELLED"

        (left,) = strain.leftover()
        assert (left.plugin, left.capability) == ("misbehaving", "hold")
        assert isinstance(left.living, threading.Thread)
        await asyncio.to_thread(left.living.join, 10)
        assert strain.leftover() == []
    registry.close()


async def test_a_worker_that_is_told_to_stop_cuts_its_attempts_short_and_another_makes_them_again(
    engine: Engine, registry: Registry
) -> None:
    TIDIED.clear()
    made: list[ActionActivities] = []

    class Kept(ActionActivities):
        def __init__(self, **parts: Any) -> None:
            super().__init__(**parts)
            made.append(self)

    async with engine.worker(kind=Kept, registry=registry, graceful_shutdown_timeout=timedelta(seconds=125)):
        event_id = await engine.fire([Step(action="tidy", name="one", retry_policy=QUICK)])
        async with asyncio.timeout(10):
            while TIDIED != ["1 begins"]:
                await asyncio.sleep(0.01)
        asyncio.get_running_loop().call_later(0.5, made[0].interrupt)
        stopped = time.monotonic()
    assert 1.5 < time.monotonic() - stopped < 10
    assert TIDIED == ["1 begins", "1 ends"]

    async with engine.worker(registry=registry):
        assert await engine.finish(event_id) == "SUCCEEDED"
    registry.close()
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "RETRYING", "STARTED", "SUCCEEDED"]
    (first, _) = await engine.deployment.rows("SELECT error, is_lost FROM attempts ORDER BY number")
    assert (first["error"]["type"], first["is_lost"]) == ("WorkerShutdown", True)


async def test_a_dedicated_plugins_step_waits_for_its_own_worker_and_then_goes_on(
    engine: Engine, keep_history: KeepHistory
) -> None:
    deployment = engine.deployment
    engine.dispatcher = Dispatcher(
        deployment.database, deployment.keyring, WorkflowStarter(engine.client), dedicated=[NAME]
    )
    async with engine.worker():
        event_id = await engine.fire([Step(action="echo", name="one", input={"x": "1"})])
        await asyncio.sleep(1)
        assert engine.actions.calls == []
        assert await deployment.statuses(event_id) == {"one": "PENDING"}

        async with engine.worker(task_queue=plugin_task_queue(NAME), workflows=[]):
            assert await engine.finish(event_id) == "SUCCEEDED"
    await keep_history("dedicated", event_id)
    assert engine.actions.steps() == ["one"]

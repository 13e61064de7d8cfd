"""Steps whose plugin an admin disabled, and configs that an older version saved."""

import asyncio
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from activities.actions import ActionActivities
from latchflow.model import InvocationStatus
from latchflow.runtime.lifecycle.registry import Registry
from latchflow.sdk import ActionCall, Plugin
from latchflow.store import places
from tests.support.execution import Step
from tests.support.registries import NAME, registry_of
from tests.workflow.engine import QUICK, Engine


async def disable(engine: Engine, status: str = "DISABLED") -> None:
    await engine.deployment.rows("UPDATE plugins SET status = %s WHERE name = %s", status, NAME)


async def until_unrouted(engine: Engine, event_id: UUID) -> None:
    async with asyncio.timeout(10):
        while await engine.deployment.statuses(event_id) != {"one": "UNROUTED"}:
            await asyncio.sleep(0.02)


async def test_a_step_that_waits_for_its_plugin_ends_when_an_admin_disables_that(engine: Engine) -> None:
    async with engine.worker(registry=Registry.union([])):
        event_id = await engine.fire([Step(action="echo", name="one")])
        await until_unrouted(engine, event_id)
        await disable(engine)

        assert await engine.finish(event_id) == "FAILED"
    step = (await engine.deployment.steps(event_id))["one"]
    assert step["status"] == "FAILED_PERMANENT"
    assert step["error"]["type"] == "PluginDisabled"
    assert "admin disabled the plugin acme-testing" in step["error"]["message"]
    assert await engine.deployment.phases(event_id, "one") == ["UNROUTED", "FAILED_PERMANENT"]


async def test_a_new_event_of_a_disabled_plugin_ends_and_a_later_one_runs_when_it_is_enabled_again(
    engine: Engine,
) -> None:
    async with engine.worker(registry=Registry.union([])):
        first = await engine.fire([Step(action="echo", name="one")])
        await disable(engine)
        assert await engine.finish(first) == "FAILED"
    await disable(engine, "ENABLED")

    _, status = await engine.run([Step(action="echo", name="one")])

    assert status == "SUCCEEDED"
    assert engine.actions.steps() == ["one"]


async def test_a_retry_that_comes_after_its_plugin_was_disabled_ends_the_step(engine: Engine) -> None:
    policy = {**QUICK, "initial_interval_seconds": 1.0, "maximum_interval_seconds": 1.0}
    step = Step(action="flaky", name="one", config={"failures": 5}, retry_policy=policy)
    async with engine.worker():
        event_id = await engine.fire([step])
        await engine.actions.entered("one")
        async with asyncio.timeout(10):
            while await engine.deployment.statuses(event_id) != {"one": "RETRYING"}:
                await asyncio.sleep(0.02)
    await disable(engine)
    async with engine.worker(registry=Registry.union([])):
        assert await engine.finish(event_id) == "FAILED"

    assert (await engine.deployment.steps(event_id))["one"]["error"]["type"] == "PluginDisabled"
    assert await engine.deployment.phases(event_id, "one") == ["STARTED", "RETRYING", "FAILED_PERMANENT"]


SCHEMA = {
    "type": "object",
    "properties": {"address": {"type": "string"}, "from": {"type": "string"}},
    "required": ["address"],
    "additionalProperties": False,
}


def plugin(migrate: Any = None) -> Registry:
    """A plugin whose configs once had ``url`` where ``address`` stands now."""
    found = Plugin()

    @found.action("echo", display_name="Echo", config_schema=SCHEMA, migrate_config=migrate)
    async def echo(call: ActionCall[Any]) -> Any:
        return dict(call.config)

    return registry_of(found)


def migrated(from_version: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"address": config["url"], "from": from_version}


def broken(_: str, config: Mapping[str, Any]) -> Mapping[str, Any]:
    raise ValueError(f"cannot: {config['url']}")


async def fire_with_old_config(engine: Engine) -> UUID:
    event_id = await engine.fire([Step(action="echo", name="one", config={"url": "secret-place"})])
    await engine.deployment.rows("UPDATE action_versions SET plugin_version = '0.9.0'")
    return event_id


async def test_an_attempt_with_an_older_config_runs_with_what_the_plugin_makes_of_it(engine: Engine) -> None:
    event_id = await fire_with_old_config(engine)

    async with engine.worker(registry=plugin(migrated)):
        assert await engine.finish(event_id) == "SUCCEEDED"

    assert await engine.deployment.output(event_id, "one") == {"address": "secret-place", "from": "0.9.0"}
    (row,) = await engine.deployment.rows("SELECT config_sealed, action_id FROM action_versions")
    place = places.action_config(row["action_id"], NAME)
    assert engine.deployment.keyring.open_json(row["config_sealed"], place) == {"url": "secret-place"}


@pytest.mark.parametrize(
    ("migrate", "quoted"),
    [
        (None, "/config/address"),
        (broken, "migrate_config of acme-testing 1.0.0 raised ValueError"),
        (lambda _, config: config, "made a config that does not fit"),
        (lambda _, __: 5, "answered int, not a mapping"),
        (lambda _, __: {"address": object()}, "raised TypeError"),
    ],
)
async def test_a_config_that_does_not_fit_ends_the_step_for_good_and_is_not_quoted(
    engine: Engine, migrate: Any, quoted: str
) -> None:
    event_id = await fire_with_old_config(engine)

    async with engine.worker(registry=plugin(migrate)):
        assert await engine.finish(event_id) == "FAILED"

    step = (await engine.deployment.steps(event_id))["one"]
    assert (step["status"], step["error"]["type"]) == ("FAILED_PERMANENT", "InvalidConfig")
    assert quoted in step["error"]["message"]
    assert "secret-place" not in step["error"]["message"]


async def test_a_config_that_a_newer_version_saved_waits_for_a_worker_with_that_version(engine: Engine) -> None:
    event_id = await engine.fire([Step(action="echo", name="one", config={"address": "here"})])
    await engine.deployment.rows("UPDATE action_versions SET plugin_version = '2.0.0'")
    await engine.deployment.rows("UPDATE plugins SET code_hash = 'newer', version = '2.0.0'")

    async with engine.worker(registry=plugin()):
        await until_unrouted(engine, event_id)
        # This worker's code comes into force again: the newer version was taken back.
        await engine.deployment.rows("UPDATE plugins SET code_hash = 'c0de', version = '1.0.0'")
        assert await engine.finish(event_id) == "SUCCEEDED"


async def test_a_step_that_ended_just_before_its_plugin_was_disabled_answers_how_it_ended(engine: Engine) -> None:
    event_id, status = await engine.run([Step(action="echo", name="one")])
    step = (await engine.deployment.steps(event_id))["one"]
    await disable(engine)
    activities = engine.activities(ActionActivities, Registry.union([]))
    task: Any = SimpleNamespace(step=SimpleNamespace(invocation_id=step["id"], plugin=NAME, capability_key="echo"))

    outcome = await activities._not_here(task)

    assert (status, outcome.status, outcome.invocation_id) == ("SUCCEEDED", InvocationStatus.SUCCEEDED, step["id"])

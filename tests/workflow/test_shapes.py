"""Shapes of workflows that no other test leaves a history of."""

import asyncio
from datetime import timedelta
from typing import Any

from latchflow.sdk import ActionCall, Pending, Plugin
from latchflow.temporal import search
from tests.support.execution import Step
from tests.support.registries import registry_of
from tests.workflow.conftest import KeepHistory
from tests.workflow.engine import Engine, until_searchable


async def test_an_action_that_waits_has_a_workflow_that_waits_for_it(engine: Engine, keep_history: KeepHistory) -> None:
    plugin = Plugin()

    def resume(call: ActionCall[Any], state: Any) -> Any:
        return {"state": state}

    @plugin.action("ask", display_name="Ask", config_schema={}, resume=resume)
    def ask(call: ActionCall[Any]) -> Any:
        return Pending(check_after=timedelta(milliseconds=150), state="kept")

    registry = registry_of(plugin)
    async with engine.worker(registry=registry):
        event_id = await engine.fire([Step(action="ask", name="one")])
        assert await engine.finish(event_id) == "SUCCEEDED"
    registry.close()
    await keep_history("pending", event_id)

    assert await engine.deployment.output(event_id, "one") == {"state": "kept"}


async def test_an_approval_nobody_gives_ends_as_it_says(engine: Engine, keep_history: KeepHistory) -> None:
    wait = {"approvers": ["ada@example.org"], "timeout": "PT0.3S", "onTimeout": "approve"}
    event_id, status = await engine.run(
        [Step(kind="approval", name="ask", wait=wait), Step(action="echo", name="after", sort_order=1)]
    )
    await keep_history("approval", event_id)

    assert status == "SUCCEEDED"
    assert await engine.deployment.statuses(event_id) == {"ask": "SUCCEEDED", "after": "SUCCEEDED"}


async def test_an_event_with_search_attributes_ends_with_its_status_in_them(
    engine: Engine, keep_history: KeepHistory
) -> None:
    assert await search.register(engine.client)
    await until_searchable(engine.client)
    event_id, _ = await engine.run([Step(action="refuse", name="one")])
    await keep_history("searched", event_id)

    async with asyncio.timeout(10):
        while (await engine.handle(event_id).describe()).typed_search_attributes.get(search.STATUS) != "FAILED":
            await asyncio.sleep(0.05)

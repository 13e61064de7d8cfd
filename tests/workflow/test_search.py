"""Events as Temporal finds and shows them."""

import asyncio
from typing import Any
from uuid import UUID

from temporalio.client import Client

from latchflow.names import MANIFEST_QUERY, event_workflow_id
from latchflow.temporal import search
from latchflow.temporal.dispatch import Firing
from tests.support.execution import Step
from tests.workflow.engine import Engine, own_namespace, until_searchable

_ECHO = Step(action="echo", name="one")


async def test_events_are_found_by_trigger_pipeline_and_status(engine: Engine) -> None:
    assert await search.register(engine.client)
    assert await search.register(engine.client), "once more changes nothing"
    await until_searchable(engine.client)
    async with engine.worker():
        trigger_id = await engine.deployment.define([_ECHO], [Step(action="refuse", name="two")])
        event_id = (await engine.dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}))).event_id
        await engine.dispatcher.close()
        await engine.finish(event_id)

        query = (
            f"LatchflowTrigger = 'trigger {trigger_id}' AND LatchflowPipelines = 'pipeline 1 of {trigger_id}' "
            "AND LatchflowStatus = 'PARTIAL_FAILURE'"
        )
        async with asyncio.timeout(10):
            while not (found := [workflow.id async for workflow in engine.client.list_workflows(query)]):
                await asyncio.sleep(0.05)
    assert found == [event_workflow_id(event_id)]


async def test_two_processes_may_register_at_once(temporal: Client) -> None:
    client = await own_namespace(temporal)

    assert await asyncio.gather(*(search.register(client) for _ in range(4))) == [True] * 4


async def test_where_the_attributes_are_missing_events_start_and_end_without_them(engine: Engine) -> None:
    engine = Engine(engine.deployment, await own_namespace(engine.client))

    _, status = await engine.run([_ECHO])
    (listed,) = [workflow async for workflow in engine.client.list_workflows("")]

    assert status == "SUCCEEDED"
    assert listed.typed_search_attributes.get(search.TRIGGER) is None
    engine.actions.registry.close()


async def test_the_details_show_every_step_and_the_manifest_is_answered_while_it_runs_and_after(
    engine: Engine,
) -> None:
    async with engine.worker():
        event_id = await engine.fire(
            [_ECHO, Step(action="hang", name="two", sort_order=1), Step(action="echo", name="three", sort_order=2)]
        )
        await engine.actions.entered("two")
        running = await _details(engine, event_id)
        manifest = await engine.handle(event_id).query(MANIFEST_QUERY)
        await engine.handle(event_id).cancel()
        await engine.finish(event_id)
        closed = await _details(engine, event_id)

        assert await engine.handle(event_id).query(MANIFEST_QUERY) == manifest
    assert manifest["event_id"] == str(event_id)
    assert _statuses(running) == {"one": "SUCCEEDED", "two": "RUNNING", "three": "PENDING"}
    assert _statuses(closed) == {"one": "SUCCEEDED", "two": "CANCELLED", "three": "CANCELLED"}


async def test_a_divided_event_shows_its_runs_and_each_run_its_steps(engine: Engine) -> None:
    async with engine.worker():
        event_id, status = await _finished(engine, *([Step(action="echo", name="only")] for _ in range(5)))
        details = await _details(engine, event_id)
        run_id = (await engine.deployment.rows("SELECT id FROM runs WHERE event_id = %s LIMIT 1", event_id))[0]["id"]
        of_run = await _details(engine, f"run:{run_id}")

    assert status == "SUCCEEDED"
    assert details.count("**SUCCEEDED**") == 5
    assert str(run_id).replace("-", "") in details.replace("-", "")
    assert _statuses(of_run) == {"only": "SUCCEEDED"}


async def _finished(engine: Engine, *pipelines: Any) -> tuple[UUID, str]:
    event_id = await engine.fire(*pipelines)
    return event_id, await engine.finish(event_id)


async def _details(engine: Engine, workflow: UUID | str) -> str:
    workflow_id = workflow if isinstance(workflow, str) else event_workflow_id(workflow)
    metadata = await engine.client.get_workflow_handle(workflow_id).query("__temporal_workflow_metadata")
    details: str = metadata.current_details
    return details


def _statuses(details: str) -> dict[str, str]:
    rows = [[cell.strip() for cell in line.split("|")] for line in details.splitlines()[2:]]
    return {row[3]: row[5].strip("*") for row in rows}

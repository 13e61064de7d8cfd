"""What waits on the task queues of plugins that have workers of their own."""

from latchflow.store import queues
from latchflow.temporal.dispatch import Dispatcher, Firing
from tests.support.execution import Deployment, Starts, Step
from tests.support.registries import NAME

_COPY = """
    INSERT INTO {table} SELECT copy.* FROM {table} AS original, generate_series(1, %s) AS number
    CROSS JOIN LATERAL jsonb_build_object('id', gen_random_uuid(), 'of', original.id, 'number', number) AS own
    CROSS JOIN LATERAL jsonb_populate_record(original, {changed} || own) AS copy
"""


async def _awaited(deployment: Deployment) -> dict[str, int]:
    async with deployment.database.connection() as connection:
        return await queues.awaited(connection)


async def _wait_on_its_queue(deployment: Deployment) -> None:
    dispatcher = Dispatcher(deployment.database, deployment.keyring, Starts(), dedicated=[NAME])
    trigger_id = await deployment.define([Step(action="do", name="one"), Step(action="do", name="two", sort_order=1)])
    await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}))
    await dispatcher.close()


async def test_a_queue_is_awaited_until_its_last_invocation_has_ended(deployment: Deployment) -> None:
    await deployment.open_event([Step(action="do", name="common")])
    await _wait_on_its_queue(deployment)
    both = await _awaited(deployment)
    await deployment.rows("UPDATE invocations SET ended_at = now() WHERE step_name = 'one'")
    one = await _awaited(deployment)
    await deployment.rows("UPDATE invocations SET ended_at = now()")

    assert (both, one, await _awaited(deployment)) == ({NAME: 2}, {NAME: 1}, {})


async def test_a_queue_is_found_behind_any_number_of_older_events(deployment: Deployment) -> None:
    await deployment.open_event([Step(action="do", name="common")])
    older = "jsonb_build_object('fired_at', original.fired_at - interval '1 hour')"
    await deployment.rows(_COPY.format(table="events", changed=older), 1100)
    await _wait_on_its_queue(deployment)

    assert await _awaited(deployment) == {NAME: 2}


async def test_a_queue_is_found_beside_another_with_a_great_many_invocations(deployment: Deployment) -> None:
    await _wait_on_its_queue(deployment)
    other = """jsonb_build_object('plugin', 'acme-busy', 'task_queue', 'latchflow-plugin-acme-busy')"""
    await deployment.rows(_COPY.format(table="invocations", changed=other), 600)

    assert await _awaited(deployment) == {NAME: 2, "acme-busy": 1000}

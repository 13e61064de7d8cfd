"""Steps on a task queue that nobody polls."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from latchflow.names import TASK_QUEUE, plugin_task_queue
from latchflow.store import processes, unrouted
from latchflow.temporal.dispatch import Dispatcher, Firing
from latchflow.temporal.starting import WorkflowStarter
from latchflow.temporal.unrouted import UnroutedFinder
from tests.support.execution import Step
from tests.support.registries import NAME
from tests.workflow.engine import Engine

_QUEUE = plugin_task_queue(NAME)
_ECHO = Step(action="echo", name="one")
_AFTER = timedelta(seconds=0.3)


async def _fire(engine: Engine, *pipelines: Sequence[Step], dedicated: Sequence[str] = (NAME,)) -> UUID:
    database, keyring = engine.deployment.database, engine.deployment.keyring
    dispatcher = Dispatcher(database, keyring, WorkflowStarter(engine.client), dedicated=dedicated)
    trigger_id = await engine.deployment.define(*pipelines)
    accepted = await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={"list": list(range(12))}))
    await dispatcher.close()
    return accepted.event_id


async def _report(engine: Engine, plugin: str | None) -> None:
    """Report to Postgres as a living worker does."""
    async with engine.deployment.database.connection() as connection:
        await processes.report(
            connection,
            process_id=uuid4(),
            role="worker",
            host="test",
            pid=1,
            version="1",
            stats={"dedicatedPlugin": plugin} if plugin else {},
        )


async def _until_marked(engine: Engine, wanted: int, *, after: timedelta = _AFTER) -> None:
    finder = UnroutedFinder(engine.deployment.database, engine.client, after=after)
    marked = 0
    async with asyncio.timeout(15):
        while marked < wanted:
            marked += await finder.run_once()
            await asyncio.sleep(0.05)
    assert marked == wanted
    assert await finder.run_once() == 0, "once"


async def test_a_step_whose_queue_nobody_polls_shows_it_once_and_goes_on_when_a_worker_comes(engine: Engine) -> None:
    async with engine.worker():
        await _report(engine, None)
        event_id = await _fire(engine, [_ECHO, Step(action="echo", name="two", sort_order=1)])
        with capture_logs() as logs:
            await _until_marked(engine, 1)

        assert await engine.deployment.statuses(event_id) == {"one": "UNROUTED", "two": "PENDING"}
        (entry,) = [entry for entry in logs if entry["log_level"] == "error"]
        assert (entry["task_queue"], entry["invocations"]) == (_QUEUE, 1)
        async with engine.deployment.database.connection() as connection:
            assert await unrouted.count_by_queue(connection) == {_QUEUE: 1}
        async with engine.worker(task_queue=_QUEUE, workflows=[]):
            assert await engine.finish(event_id) == "SUCCEEDED"
    assert await engine.deployment.phases(event_id, "one") == ["UNROUTED", "STARTED", "SUCCEEDED"]
    assert await engine.deployment.phases(event_id, "two") == ["STARTED", "SUCCEEDED"]


@pytest.mark.parametrize(
    ("pipelines", "marked"),
    [
        ([[Step(action="echo", name="each", for_each="event.context.list", max_parallel=4)]], 4),
        ([[_ECHO]] * 5, 5),
    ],
    ids=["of items", "of runs"],
)
async def test_steps_in_workflows_below_the_events_are_found(
    engine: Engine, pipelines: list[list[Step]], marked: int
) -> None:
    async with engine.worker():
        await _report(engine, None)
        event_id = await _fire(engine, *pipelines)
        await _until_marked(engine, marked)
        async with engine.worker(task_queue=_QUEUE, workflows=[]):
            assert await engine.finish(event_id) == "SUCCEEDED"


async def test_a_mere_backlog_stays_pending(engine: Engine) -> None:
    async with engine.worker(), engine.worker(task_queue=_QUEUE, workflows=[], max_concurrent_activities=1):
        await _report(engine, None)
        await _report(engine, NAME)
        event_id = await _fire(engine, [Step(action="hang", name="one"), Step(action="hang", name="two")])
        async with asyncio.timeout(10):
            while not engine.actions.calls:
                await asyncio.sleep(0.02)
        await asyncio.sleep(_AFTER.total_seconds() * 2)  # time that has to pass
        finder = UnroutedFinder(engine.deployment.database, engine.client, after=_AFTER)

        assert await finder.run_once() == 0
        assert sorted((await engine.deployment.statuses(event_id)).values()) == ["PENDING", "RUNNING"]
        await engine.handle(event_id).cancel()
        await engine.finish(event_id)


async def test_without_any_worker_the_steps_whose_turn_it_is_show_it(engine: Engine) -> None:
    event_id = await _fire(
        engine,
        [
            _ECHO,
            Step(kind="delay", name="pause", wait={"for": "PT0.1S"}),
            Step(action="echo", name="later", sort_order=1),
        ],
        dedicated=(),
    )
    await engine.deployment.rows("UPDATE events SET start_confirmed_at = now() - interval '1 minute'")
    await _until_marked(engine, 1)

    assert await engine.deployment.statuses(event_id) == {"one": "UNROUTED", "pause": "PENDING", "later": "PENDING"}
    async with engine.deployment.database.connection() as connection:
        assert await unrouted.count_by_queue(connection) == {TASK_QUEUE: 1}
    async with engine.worker():
        assert await engine.finish(event_id) == "SUCCEEDED"


async def test_what_a_worker_took_meanwhile_is_not_marked(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([Step(action="hang", name="one")])
        await engine.actions.entered("one")
        ids = [row["id"] for row in (await engine.deployment.steps(event_id)).values()]
        async with engine.deployment.database.connection() as connection:
            assert await unrouted.mark(connection, ids, queue=TASK_QUEUE, waited=_AFTER) == 0
        await engine.deployment.rows("UPDATE invocations SET status = 'RETRYING'")
        async with engine.deployment.database.connection() as connection:
            waited = timedelta(minutes=1)
            assert await unrouted.mark(connection, ids, queue=TASK_QUEUE, waited=waited) == 0
        await engine.deployment.rows("UPDATE invocations SET status = 'RUNNING'")
        await engine.handle(event_id).cancel()
        await engine.finish(event_id)

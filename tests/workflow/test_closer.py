"""Events whose workflow went away, or hangs."""

import asyncio

from temporalio import workflow
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import DeleteWorkflowExecutionRequest
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import UnsandboxedWorkflowRunner

from latchflow.model import Manifest
from latchflow.names import TRIGGER_EVENT_WORKFLOW, event_workflow_id
from latchflow.temporal.closer import Closer
from tests.support.execution import Step
from tests.workflow.engine import Engine

_HANG = Step(action="hang", name="one")


@workflow.defn(name=TRIGGER_EVENT_WORKFLOW)
class _Broken:
    """A deployment whose workflow code has a bug."""

    @workflow.run
    async def run(self, manifest: Manifest) -> str:
        raise KeyError("a bug")


@workflow.defn(name=TRIGGER_EVENT_WORKFLOW, failure_exception_types=[KeyError])
class _Failing:
    """One that lets the bug fail the workflow."""

    @workflow.run
    async def run(self, manifest: Manifest) -> str:
        raise KeyError("a bug")


async def test_an_event_whose_workflow_was_terminated_is_closed_with_the_reason(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([_HANG, Step(action="echo", name="two", sort_order=1)])
        await engine.actions.entered("one")
        assert await engine.closer.run_once() == 0, "it has not been silent for a minute"
        await engine.age(event_id)
        assert await engine.closer.run_once() == 0, "its workflow runs"
        await engine.handle(event_id).terminate()
        await engine.age(event_id)

        assert await engine.closer.run_once() == 1
        assert await engine.closer.run_once() == 0
    event = await engine.deployment.event(event_id)
    assert (event["status"], event["closed_by"], event["closed_reason"]) == (
        "FAILED",
        "closer",
        "Closed: its workflow was terminated.",
    )
    assert (await engine.deployment.phases(event_id, "one"))[:3] == ["STARTED", "TIMED_OUT", "FAILED"]
    await engine.deployment.check_accounts(event_id)


async def test_an_action_that_outlives_its_event_changes_nothing_of_it(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([_HANG])
        await engine.actions.entered("one")
        await engine.handle(event_id).terminate()
        await engine.age(event_id)
        await engine.closer.run_once()
        assert await asyncio.to_thread(engine.actions.cancelled.wait, 10)
    await engine.deployment.check_accounts(event_id)


async def test_an_event_whose_workflow_was_deleted_is_closed(engine: Engine) -> None:
    event_id = await engine.fire([_HANG])
    await engine.client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=engine.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=event_workflow_id(event_id)),
        )
    )
    async with asyncio.timeout(15):
        while await _is_known(engine, event_id):
            await asyncio.sleep(0.05)
    await engine.age(event_id)

    assert await engine.closer.run_once() == 1
    assert (await engine.deployment.event(event_id))["closed_reason"] == "Closed: its workflow is gone from Temporal."
    await engine.deployment.check_accounts(event_id)


async def test_an_event_whose_workflow_failed_is_closed(engine: Engine) -> None:
    event_id = await engine.fire([_HANG])
    async with engine.worker(workflows=[_Failing], workflow_runner=UnsandboxedWorkflowRunner()):
        async with asyncio.timeout(10):
            while await _is_running(engine, event_id):
                await asyncio.sleep(0.02)
    await engine.age(event_id)

    assert await engine.closer.run_once() == 1
    assert (await engine.deployment.event(event_id))["closed_reason"] == "Closed: its workflow failed."


async def test_an_event_whose_workflow_task_keeps_failing_shows_as_stuck_while_it_is_open(engine: Engine) -> None:
    event_id = await engine.fire([Step(action="echo", name="one")])
    async with engine.worker(workflows=[_Broken], workflow_runner=UnsandboxedWorkflowRunner()):
        async with asyncio.timeout(15):
            while await _task_attempt(engine, event_id) < 2:
                await asyncio.sleep(0.02)
    # Temporal takes ten seconds to the third; the number is the closer's to choose.
    closer = Closer(engine.deployment.database, engine.client, stuck_after_attempts=2)
    await engine.age(event_id)
    assert await closer.run_once() == 0
    assert (await engine.deployment.event(event_id))["is_stuck"]
    await engine.handle(event_id).terminate()
    await engine.age(event_id)
    assert await closer.run_once() == 1

    assert not (await engine.deployment.event(event_id))["is_stuck"]


async def _is_known(engine: Engine, event_id: object) -> bool:
    try:
        await engine.client.get_workflow_handle(f"event:{event_id}").describe()
    except RPCError as error:
        if error.status is not RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def _is_running(engine: Engine, event_id: object) -> bool:
    description = await engine.client.get_workflow_handle(f"event:{event_id}").describe()
    return description.close_time is None


async def _task_attempt(engine: Engine, event_id: object) -> int:
    description = await engine.client.get_workflow_handle(f"event:{event_id}").describe()
    return int(description.raw_description.pending_workflow_task.attempt)

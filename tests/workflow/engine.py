"""One deployment with a worker of its own: real Temporal, real PostgreSQL, the real activities, actions of the test."""

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from google.protobuf.duration_pb2 import Duration
from temporalio.api.workflowservice.v1 import RegisterNamespaceRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.service import RPCError
from temporalio.worker import PollerBehaviorSimpleMaximum, Worker

from activities.actions import ActionActivities
from activities.bulk import BulkActivities
from activities.events import EventActivities
from activities.steps import StepActivities
from latchflow import expressions
from latchflow.names import CORE_TASK_QUEUE, TASK_QUEUE, event_workflow_id
from latchflow.runtime.lifecycle.live import LiveRegistry
from latchflow.runtime.lifecycle.registry import Registry
from latchflow.sdk import (
    ActionCall,
    PermanentFailure,
    Plugin,
    Retry,
)
from latchflow.temporal.bulk import BulkOperations
from latchflow.temporal.cancelling import Canceller
from latchflow.temporal.closer import Closer
from latchflow.temporal.dispatch import Dispatcher, Firing
from latchflow.temporal.rerunning import Rerunner
from latchflow.temporal.starting import WorkflowStarter
from tests.support.execution import Deployment, Step
from tests.support.registries import registry_of
from tests.support.services import NO_SERVICES
from workflows import CORE_WORKFLOWS, WORKFLOWS

HISTORIES = Path(__file__).parents[1] / "histories"
QUICK = {
    "max_attempts": 3,
    "initial_interval_seconds": 0.05,
    "backoff_coefficient": 1.0,
    "maximum_interval_seconds": 0.05,
}
BEAT = timedelta(seconds=0.2)
_AGEING = (
    """
    UPDATE events SET start_confirmed_at = start_confirmed_at - interval '2 minutes', next_check_at = now()
    WHERE id = %s
    """,
    """
    UPDATE attempts SET started_at = started_at - interval '2 minutes', ended_at = ended_at - interval '2 minutes'
    WHERE invocation_id IN (SELECT id FROM invocations WHERE event_id = %s)
    """,
    """
    UPDATE invocations SET ended_at = ended_at - interval '2 minutes',
                           next_attempt_at = next_attempt_at - interval '2 minutes'
    WHERE event_id = %s
    """,
)


class InProcess:
    """Evaluates here; how a worker bounds it has tests of its own."""

    async def evaluate(self, source: str, variables: Mapping[str, Any]) -> Any:
        return expressions.evaluate(source, variables)

    async def evaluate_template(self, value: Any, variables: Mapping[str, Any]) -> Any:
        return expressions.evaluate_template(value, variables)


class Actions:
    """The actions of these tests, and what they were called with."""

    def __init__(self) -> None:
        self.calls: list[ActionCall[Any]] = []
        self.cancelled = threading.Event()
        self._entered: asyncio.Queue[str] = asyncio.Queue()
        self._host = asyncio.get_running_loop()
        self.registry = registry_of(self._plugin())

    async def entered(self, step: str) -> None:
        """Wait until a step's action runs."""
        async with asyncio.timeout(10):
            while await self._entered.get() != step:
                continue

    def steps(self) -> list[str]:
        """The steps whose actions were called, in order."""
        return [call.invocation.step_name for call in self.calls]

    def _note(self, call: ActionCall[Any]) -> None:
        self.calls.append(call)
        self._host.call_soon_threadsafe(self._entered.put_nowait, call.invocation.step_name)

    def _plugin(self) -> Plugin:  # noqa: C901 - many small actions
        plugin = Plugin()

        @plugin.action("echo", display_name="Echo", config_schema={})
        async def echo(call: ActionCall[Any]) -> Any:
            self._note(call)
            return dict(call.payload)

        @plugin.action("count", display_name="Count the letters", config_schema={})
        def count(call: ActionCall[Any]) -> Any:
            self._note(call)
            return {"letters": len(call.payload["text"])}

        @plugin.action("repeat", display_name="Put out many letters", config_schema={})
        async def repeat(call: ActionCall[Any]) -> Any:
            self._note(call)
            return {"text": "x" * call.config["times"]}

        @plugin.action("refuse", display_name="Fail for good", config_schema={})
        async def refuse(call: ActionCall[Any]) -> Any:
            self._note(call)
            raise PermanentFailure("no such recipient")

        @plugin.action("some", display_name="Fail for nines", config_schema={})
        async def some(call: ActionCall[Any]) -> Any:
            self._note(call)
            if call.payload["value"] == 9:
                raise PermanentFailure("a nine")
            return {}

        @plugin.action("flaky", display_name="Fail at first", config_schema={})
        async def flaky(call: ActionCall[Any]) -> Any:
            self._note(call)
            if call.invocation.attempt <= call.config["failures"]:
                raise ValueError("not yet")
            return {"attempt": call.invocation.attempt}

        @plugin.action("later", display_name="Ask for a retry", config_schema={})
        async def later(call: ActionCall[Any]) -> Any:
            self._note(call)
            if call.invocation.attempt == 1:
                raise Retry(after=timedelta(milliseconds=20), reason="rate limited")
            return {}

        @plugin.action("hang", display_name="Hang", config_schema={})
        async def hang(call: ActionCall[Any]) -> None:
            self._note(call)
            try:
                await asyncio.sleep(100)
            finally:
                self.cancelled.set()

        @plugin.action("progress", display_name="Report an unfit progress", config_schema={})
        async def progress(call: ActionCall[Any]) -> None:
            self._note(call)
            call.heartbeat({"done": "half\x00"})
            call.heartbeat(object())

        return plugin


class Engine:
    """What a test drives."""

    def __init__(self, deployment: Deployment, client: Client) -> None:
        self.deployment = deployment
        self.client = client
        self.actions = Actions()
        self.backends = NO_SERVICES
        self.evaluator = InProcess()
        self.dispatcher = Dispatcher(deployment.database, deployment.keyring, WorkflowStarter(client))
        self.closer = Closer(deployment.database, client, start=self.dispatcher.start_soon)
        self.canceller = Canceller(deployment.database, client)
        self.rerunner = Rerunner(deployment.database, deployment.keyring, self.dispatcher)
        self.bulk = BulkOperations(deployment.database, client)

    def activities(self, kind: type[ActionActivities] = ActionActivities, registry: Registry | None = None) -> Any:
        """The activities of a worker, of the real class or of one that misbehaves."""
        return kind(
            database=self.deployment.database,
            keyring=self.deployment.keyring,
            live=LiveRegistry(registry or self.actions.registry),
            backends=self.backends,
            evaluator=self.evaluator,
            worker="worker@test",
        )

    @asynccontextmanager
    async def worker(
        self, kind: type[ActionActivities] = ActionActivities, registry: Registry | None = None, **options: Any
    ) -> AsyncIterator[Worker]:
        """A worker as `worker.py` makes it, but in the sandbox, and with quicker heartbeats."""
        poller = PollerBehaviorSimpleMaximum(2)
        events = EventActivities(self.deployment.database, start=self.dispatcher.start_soon)
        steps = StepActivities(
            database=self.deployment.database, keyring=self.deployment.keyring, evaluator=self.evaluator
        )
        worker = Worker(
            self.client,
            activities=[
                self.activities(kind, registry).execute_action,
                events.close_event,
                events.close_run,
                steps.begin_wait,
                steps.settle_wait,
                steps.expand_items,
                steps.finish_items,
            ],
            activity_task_poller_behavior=poller,
            workflow_task_poller_behavior=poller,
            sticky_queue_schedule_to_start_timeout=timedelta(seconds=0.5),
            max_heartbeat_throttle_interval=BEAT,
            default_heartbeat_throttle_interval=BEAT,
            **{"task_queue": TASK_QUEUE, "workflows": WORKFLOWS, **options},
        )
        async with worker:
            yield worker

    def bulk_activities(self) -> BulkActivities:
        """What carries bulk operations out."""
        return BulkActivities(
            self.deployment.database, canceller=self.canceller, rerunner=self.rerunner, dispatcher=self.dispatcher
        )

    def core_worker(self) -> Worker:
        """A worker of core's own long work."""
        poller = PollerBehaviorSimpleMaximum(2)
        return Worker(
            self.client,
            task_queue=CORE_TASK_QUEUE,
            workflows=CORE_WORKFLOWS,
            activities=[self.bulk_activities().continue_bulk],
            activity_task_poller_behavior=poller,
            workflow_task_poller_behavior=poller,
        )

    async def fire(self, *pipelines: Sequence[Step], context: Mapping[str, Any] | None = None) -> UUID:
        """Dispatch one event of a new trigger."""
        trigger_id = await self.deployment.define(*pipelines)
        accepted = await self.dispatcher.dispatch(Firing(trigger_id=trigger_id, context=context or {}))
        await self.dispatcher.close()
        return accepted.event_id

    def handle(self, event_id: UUID) -> WorkflowHandle[Any, str]:
        """The event's workflow."""
        return self.client.get_workflow_handle(event_workflow_id(event_id), result_type=str)

    async def finish(self, event_id: UUID) -> str:
        """Wait for the event's end; everything of it is accounted for.

        Returns:
            Its status.
        """
        async with asyncio.timeout(20):
            status = await self.handle(event_id).result()
        assert (await self.deployment.event(event_id))["status"] == status
        await self.deployment.check_accounts(event_id)
        return status

    async def run(self, *pipelines: Sequence[Step], context: Mapping[str, Any] | None = None) -> tuple[UUID, str]:
        """Fire with a worker running, and wait for the end."""
        async with self.worker():
            event_id = await self.fire(*pipelines, context=context)
            return event_id, await self.finish(event_id)

    async def age(self, event_id: UUID) -> None:
        """Let the event look as if all of it had happened two minutes earlier."""
        for statement in _AGEING:
            await self.deployment.rows(statement, event_id)


async def own_namespace(client: Client) -> Client:
    """A client of a new namespace: without attributes of ours, and without workflows of other tests."""
    name = f"own-{uuid4()}"
    await client.workflow_service.register_namespace(
        RegisterNamespaceRequest(namespace=name, workflow_execution_retention_period=Duration(seconds=86400))
    )
    config = client.config()
    config["namespace"] = name
    bare = Client(**config)
    async with asyncio.timeout(20):
        while True:
            try:
                assert [workflow async for workflow in bare.list_workflows("")] == []
            except RPCError:
                await asyncio.sleep(0.1)
            else:
                return bare


async def until_searchable(client: Client) -> None:
    """Registered is not known at once: Temporal's parts read them anew now and then."""
    async with asyncio.timeout(20):
        while True:
            try:
                await client.count_workflows("LatchflowStatus = 'x'", rpc_timeout=timedelta(seconds=5))
            except RPCError:
                await asyncio.sleep(0.1)
            else:
                return

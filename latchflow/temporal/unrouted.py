"""Finding from outside what no worker could report: steps that wait on a task queue nobody polls."""

from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from uuid import UUID

import structlog
from temporalio.api.enums.v1 import PendingActivityState, PendingWorkflowTaskState, TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest, DescribeWorkflowExecutionResponse
from temporalio.client import Client

from latchflow import plan
from latchflow.names import TASK_QUEUE, plugin_task_queue
from latchflow.store import processes, unrouted
from latchflow.store.database import Database
from latchflow.temporal.families import descriptions

_RPC_TIMEOUT = timedelta(seconds=5)
_EVENTS_PER_TURN = 500
_MOST_WORKFLOWS = 1000
"""Of one event that are looked at in one turn: its own, and below it those of runs, items and waits."""

_POLLED_WITHIN = timedelta(seconds=150)
"""Temporal remembers pollers for five minutes. A worker whose slots are all taken polls again when an attempt ends, two
minutes later at most."""

_REPORTED_WITHIN = timedelta(seconds=60)
"""A worker that died is still among Temporal's pollers; but it reports to Postgres every few seconds while it lives."""

log = structlog.get_logger(__name__)


class UnroutedFinder:
    """Marks invocations as ``UNROUTED`` whose activity nobody took for a while, because nobody polls its queue.

    An activity has no schedule-to-start timeout: it stays where it is, and the worker that comes takes it. A queue
    with workers that are merely busy is left alone.

    Args:
        database: Where invocations are.
        client: Of Temporal.
        after: How long an invocation must have waited.

    Attributes:
        after: As it was given.
    """

    def __init__(self, database: Database, client: Client, *, after: timedelta) -> None:
        self._database = database
        self._client = client
        self.after = after
        self._last: UUID | None = None

    async def run_once(self) -> int:
        """Look once, at the next few hundred events when there are many.

        Returns:
            How many were marked.

        Raises:
            UnavailableError: The database is away.
            RPCError: Temporal is away.
        """
        async with self._database.connection() as connection:
            queues = await unrouted.queues_in_use(connection)
            served = _served(await processes.alive(connection, within=_REPORTED_WITHIN))
        lonely = {queue for queue in queues if queue not in served or not await self._is_polled(queue)}
        if not lonely:
            return 0
        async with self._database.connection() as connection:
            event_ids = await unrouted.events_on(
                connection, lonely, older_than=self.after, after=self._last, limit=_EVENTS_PER_TURN
            )
        self._last = event_ids[-1] if len(event_ids) == _EVENTS_PER_TURN else None
        total = 0
        for event_id in event_ids:
            total += await self._look_at(event_id, lonely)
        return total

    async def _is_polled(self, queue: str) -> bool:
        described = await self._client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=self._client.namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            ),
            timeout=_RPC_TIMEOUT,
        )
        since = datetime.now(UTC) - _POLLED_WITHIN
        return any(poller.last_access_time.ToDatetime(tzinfo=UTC) > since for poller in described.pollers)

    async def _look_at(self, event_id: UUID, lonely: Collection[str]) -> int:
        waiting: dict[str, list[UUID]] = defaultdict(list)
        is_workflow_waiting = False
        before = datetime.now(UTC) - self.after
        for description in await descriptions(self._client, event_id, most=_MOST_WORKFLOWS):
            for activity in description.pending_activities:
                queue = activity.activity_options.task_queue.name
                if queue in lonely and _has_waited(activity, before) and (found := _invocation_of(activity)):
                    waiting[queue].append(found)
            is_workflow_waiting |= TASK_QUEUE in lonely and _has_workflow_waited(description, before)
        if is_workflow_waiting:
            waiting[TASK_QUEUE] += await self._due_steps(event_id)
        marked = 0
        for queue, ids in waiting.items():
            async with self._database.connection() as connection:
                number = await unrouted.mark(connection, ids, queue=queue, waited=self.after)
            if number:
                log.error(
                    "steps wait on a task queue that no worker polls: start one",
                    task_queue=queue,
                    event_id=str(event_id),
                    invocations=number,
                    waited_seconds=self.after.total_seconds(),
                )
            marked += number
        return marked

    async def _due_steps(self, event_id: UUID) -> list[UUID]:
        """The steps whose turn it is in an event whose workflow itself waits for a worker."""
        async with self._database.connection() as connection:
            event = await unrouted.unfinished(connection, event_id)
        if event is None:
            return []
        return [
            step.invocation_id
            for run in event.manifest.runs
            for step in plan.next_steps(run, event.endings)
            # The others begin in the workflow's own worker, from the status that they have.
            if step.kind == "action" and not step.is_for_each and step.task_queue is None
        ]


def _served(alive: Collection[processes.Process]) -> frozenset[str]:
    """The queues that the living workers are for."""
    plugins = [process.stats.get("dedicatedPlugin") for process in alive if process.role == "worker"]
    return frozenset(TASK_QUEUE if plugin is None else plugin_task_queue(plugin) for plugin in plugins)


def _has_waited(activity: PendingActivityInfo, before: datetime) -> bool:
    is_scheduled = activity.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    return is_scheduled and activity.scheduled_time.ToDatetime(tzinfo=UTC) <= before


def _has_workflow_waited(description: DescribeWorkflowExecutionResponse, before: datetime) -> bool:
    if not description.HasField("pending_workflow_task"):
        return False
    task = description.pending_workflow_task
    is_scheduled = task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED
    return is_scheduled and task.original_scheduled_time.ToDatetime(tzinfo=UTC) <= before


def _invocation_of(activity: PendingActivityInfo) -> UUID | None:
    """The id of an activity is that of its invocation, and of its turn."""
    try:
        return UUID(activity.activity_id.partition(":")[0])
    except ValueError:
        return None

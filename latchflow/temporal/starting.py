"""Starting the workflow of an event. Safe to repeat: an event has one workflow id, and its reuse is rejected."""

import time
from datetime import timedelta
from typing import Protocol
from uuid import UUID

from temporalio.client import Client
from temporalio.common import TypedSearchAttributes, WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from latchflow.model import Manifest
from latchflow.names import TASK_QUEUE, TRIGGER_EVENT_WORKFLOW, event_workflow_id
from latchflow.temporal import search

_RPC_TIMEOUT = timedelta(seconds=3)
_LONGEST_SUMMARY = 200  # characters: it is one line of the Web UI
_PLAIN_SECONDS = 5.0  # how long starts leave the search attributes out after Temporal took one only without


class Starter(Protocol):
    """Starts and cancels workflows of events; answers only when Temporal knows."""

    async def start(self, manifest: Manifest) -> None:
        """Start it; that it was started already is a success."""
        ...

    async def cancel(self, event_id: UUID) -> bool:
        """Ask for the cancellation of an event's workflow; False when none of it is open."""
        ...


class WorkflowStarter:
    """Starts workflows through a Temporal client."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._plain_until = 0.0

    async def start(self, manifest: Manifest) -> None:
        """Start the event's workflow; that it was started already is a success.

        It begins with the search attributes of `latchflow.temporal.search` where the namespace has them. No event
        stays behind for want of one: what Temporal refuses as invalid is offered again without, and only that answer
        is final.

        Raises:
            RPCError: Temporal did not accept it.
            RuntimeError: Temporal cannot be reached.
        """
        if time.monotonic() < self._plain_until:
            await self._start(manifest, None)
            return
        try:
            await self._start(manifest, search.attributes_of(manifest))
        except RPCError as error:
            if error.status is not RPCStatusCode.INVALID_ARGUMENT:
                raise
            await self._start(manifest, None)
            # Taken without: the namespace lacks them. Tried again soon, for they may be registered any time.
            self._plain_until = time.monotonic() + _PLAIN_SECONDS

    async def _start(self, manifest: Manifest, attributes: TypedSearchAttributes | None) -> None:
        names = ", ".join(run.pipeline_name for run in manifest.runs)
        try:
            await self._client.start_workflow(
                TRIGGER_EVENT_WORKFLOW,
                manifest,
                id=event_workflow_id(manifest.event_id),
                task_queue=TASK_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                static_summary=f"{manifest.trigger_name} -> {names}"[:_LONGEST_SUMMARY],
                search_attributes=attributes,
                rpc_timeout=_RPC_TIMEOUT,
            )
        except WorkflowAlreadyStartedError:
            return

    async def cancel(self, event_id: UUID) -> bool:
        """Ask for the cancellation of an event's workflow; asking again changes nothing.

        Returns:
            False when no workflow of it is open: none was started, or it is over.

        Raises:
            RPCError: Temporal did not accept it.
            RuntimeError: Temporal cannot be reached.
        """
        try:
            await self._client.get_workflow_handle(event_workflow_id(event_id)).cancel(rpc_timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            return False
        return True

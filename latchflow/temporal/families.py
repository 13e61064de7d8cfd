"""The workflows of one event: its own, and those below it."""

from datetime import timedelta
from uuid import UUID

from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from latchflow.names import event_workflow_id

_RPC_TIMEOUT = timedelta(seconds=5)


async def descriptions(client: Client, event_id: UUID, *, most: int) -> list[DescribeWorkflowExecutionResponse]:
    """The event's workflow, and the open ones below it, so many at most.

    Raises:
        RPCError: Temporal is away.
    """
    found: list[DescribeWorkflowExecutionResponse] = []
    ids = [event_workflow_id(event_id)]
    while ids and len(found) < most:
        handle = client.get_workflow_handle(ids.pop())
        try:
            description = (await handle.describe(rpc_timeout=_RPC_TIMEOUT)).raw_description
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise
            continue  # gone meanwhile; if it is the event's, the closer closes it
        found.append(description)
        ids += [child.workflow_id for child in description.pending_children]
    return found

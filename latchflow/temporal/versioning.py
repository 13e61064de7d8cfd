"""Builds of the workers: which of them Temporal hands workflows to, and what is looked at before that changes."""

from collections.abc import AsyncIterator
from datetime import timedelta

from temporalio.api.workflowservice.v1 import SetWorkerDeploymentCurrentVersionRequest
from temporalio.client import Client, WorkflowHistory
from temporalio.common import VersioningBehavior, WorkerDeploymentVersion
from temporalio.service import RPCError, RPCStatusCode
from temporalio.worker import WorkerDeploymentConfig

from latchflow.errors import ConfigurationError
from latchflow.names import DEPLOYMENT

_RPC_TIMEOUT = timedelta(seconds=10)


def deployment_config(build_id: str) -> WorkerDeploymentConfig | None:
    """How a worker takes part in Temporal's worker versioning; None, without a build id, not at all.

    Workflows upgrade by themselves: with its next task each goes to the build that is current. Pinned ones would
    need the workers of every build until its last event has ended, and an event may wait for a year. What makes it
    safe is that a change of a workflow keeps the old way for old events, which `latchflow deploy promote` tries out.
    """
    if not build_id:
        return None
    return WorkerDeploymentConfig(
        version=WorkerDeploymentVersion(deployment_name=DEPLOYMENT, build_id=build_id),
        use_worker_versioning=True,
        default_versioning_behavior=VersioningBehavior.AUTO_UPGRADE,
    )


async def open_histories(client: Client, workflow_type: str, *, limit: int) -> AsyncIterator[WorkflowHistory]:
    """The histories of open workflows of a type, the newest first.

    Raises:
        RPCError: Temporal is away.
    """
    query = f"WorkflowType = '{workflow_type}' AND ExecutionStatus = 'Running'"
    async for workflow in client.list_workflows(query, limit=limit, rpc_timeout=_RPC_TIMEOUT):
        handle = client.get_workflow_handle(workflow.id, run_id=workflow.run_id)
        try:
            yield await handle.fetch_history(rpc_timeout=_RPC_TIMEOUT)
        except RPCError as error:
            if error.status is not RPCStatusCode.NOT_FOUND:
                raise


async def make_current(client: Client, build_id: str) -> None:
    """Let Temporal hand every workflow's next task to the workers of this build.

    Raises:
        ConfigurationError: No worker of this build has polled yet, or none for a task queue that the current one has.
        RPCError: Temporal is away.
    """
    try:
        await client.workflow_service.set_worker_deployment_current_version(
            SetWorkerDeploymentCurrentVersionRequest(
                namespace=client.namespace, deployment_name=DEPLOYMENT, build_id=build_id, identity=client.identity
            ),
            timeout=_RPC_TIMEOUT,
        )
    except RPCError as error:
        if error.status not in (RPCStatusCode.NOT_FOUND, RPCStatusCode.FAILED_PRECONDITION):
            raise
        raise ConfigurationError(
            f"Temporal does not take the build {build_id!r}: {error.message}. Start workers of it first, for every "
            f"task queue, with LATCHFLOW_BUILD_ID={build_id}."
        ) from None

"""One Temporal server for the session; a deployment and an engine for each test."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from latchflow.crypto import Keyring
from latchflow.names import event_workflow_id
from latchflow.temporal import policies
from latchflow.temporal.codec import data_converter
from tests.support.execution import FAKE_KEY, Deployment
from tests.workflow.engine import BEAT, HISTORIES, Engine

KeepHistory = Callable[[str, UUID | str], Awaitable[None]]
"""Stores the history of an event, or of a workflow id, under a name, when the tests run with --record-histories."""

# Without these, every step of a lone workflow waits; see latchflow/dev/temporal_server.py.
_DYNAMIC_CONFIG = (
    "history.transferProcessorMaxPollRPS=200",
    "history.timerProcessorMaxPollRPS=200",
    'history.timerProcessorMaxTimeShift="10ms"',
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
)


@pytest.fixture(scope="session")
async def temporal() -> AsyncIterator[Client]:
    """A client of a server that keeps everything in memory."""
    environment = await WorkflowEnvironment.start_local(
        data_converter=data_converter(Keyring.from_setting(FAKE_KEY)),
        identity="worker@test",
        dev_server_existing_path=str(Path(sys.executable).with_name("temporal")),
        dev_server_extra_args=[word for value in _DYNAMIC_CONFIG for word in ("--dynamic-config-value", value)],
    )
    yield environment.client
    await environment.shutdown()


@pytest.fixture
async def engine(deployment: Deployment, temporal: Client, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Engine]:
    monkeypatch.setattr(policies, "HEARTBEAT_INTERVAL", BEAT)
    engine = Engine(deployment, temporal)
    yield engine
    await engine.dispatcher.close()
    await engine.canceller.close()
    engine.actions.registry.close()


@pytest.fixture
def keep_history(request: pytest.FixtureRequest, engine: Engine) -> KeepHistory:
    async def keep(name: str, of: UUID | str) -> None:
        if request.config.getoption("--record-histories"):
            await record_histories(engine.client, name, of if isinstance(of, str) else event_workflow_id(of))

    return keep


async def record_histories(client: Client, name: str, workflow_id: str) -> None:
    """Store a workflow's history under a name, and one of each type of the workflows below it.

    What is there already stays as it is: it stands for workflows that began with earlier code.
    """
    history = await client.get_workflow_handle(workflow_id).fetch_history()
    path = HISTORIES / f"{name}.json"
    if not path.exists():
        path.write_text(history.to_json() + "\n", encoding="utf-8")
    below = {
        started.workflow_execution.workflow_id
        for event in history.events
        if event.HasField("child_workflow_execution_started_event_attributes")
        for started in [event.child_workflow_execution_started_event_attributes]
    }
    for prefix in ("run", "items", "wait"):
        child_id = min((child for child in below if child.startswith(f"{prefix}:")), default=None)
        if child_id is not None:
            await record_histories(client, f"{name}.{prefix}", child_id)

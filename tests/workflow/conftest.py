"""One Temporal server for the session; a deployment and an engine for each test."""

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from latchflow.crypto import Keyring
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
            handle = engine.handle(of) if isinstance(of, UUID) else engine.client.get_workflow_handle(of)
            history = await handle.fetch_history()
            (HISTORIES / f"{name}.json").write_text(history.to_json() + "\n", encoding="utf-8")

    return keep

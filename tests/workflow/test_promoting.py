"""Builds of the workers: what carries events on, and what is tried out before that changes."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from temporalio import workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner

from latchflow.model import Manifest
from latchflow.names import TRIGGER_EVENT_WORKFLOW
from latchflow.temporal.versioning import deployment_config
from promote import WORKFLOW_TYPES
from tests.support.execution import FAKE_KEY, Step
from tests.workflow.engine import Engine, own_namespace
from workflows import WORKFLOWS

ROOT = Path(__file__).parents[2]


@workflow.defn(name=TRIGGER_EVENT_WORKFLOW)
class _Other:
    """A deployment whose workflow takes another way."""

    @workflow.run
    async def run(self, manifest: Manifest) -> str:
        await asyncio.sleep(1000)
        return "SUCCEEDED"


@pytest.fixture
async def apart(engine: Engine) -> Engine:
    """The engine in a namespace of its own: a build that is current holds for everyone there."""
    alone = Engine(engine.deployment, await own_namespace(engine.client))
    alone.actions = engine.actions
    return alone


async def _promote(client: Client, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {
        "PATH": os.environ["PATH"],
        "ENCRYPTION_KEY": FAKE_KEY,
        "LATCHFLOW_HOME": str(ROOT),
        "TEMPORAL_ADDRESS": client.service_client.config.target_host,
        "TEMPORAL_NAMESPACE": client.namespace,
        "TEMPORAL_CONFIG_FILE": os.devnull,
    }
    command = [sys.executable, "-m", "latchflow.cli", "deploy", "promote", *arguments]
    return await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


async def test_a_build_takes_over_what_is_open_once_it_is_promoted(apart: Engine) -> None:
    async with apart.worker(deployment_config=deployment_config("one")):
        event_id = await apart.fire([Step(action="hang", name="one", timeout_seconds=115)])
        before = await _promote(apart.client, "--build-id", "nobody-has-it")
        assert await apart.deployment.statuses(event_id) == {"one": "PENDING"}, "no build is current"
        first = await _promote(apart.client, "--build-id", "one")
        await apart.actions.entered("one")
    async with apart.worker(deployment_config=deployment_config("two")):
        second = await _promote(apart.client, "--build-id", "two")
        await apart.actions.entered("one")
        await apart.handle(event_id).cancel()

        assert await apart.finish(event_id) == "CANCELLED"
    assert before.returncode == 1
    assert "LATCHFLOW_BUILD_ID=nobody-has-it" in before.stderr
    assert before.stderr.count("\n") == 1
    assert (first.returncode, first.stdout) == (0, "Replayed 1 open workflows. The build one is current.\n"), first
    assert second.returncode == 0, second.stderr
    history = await apart.handle(event_id).fetch_history()
    builds = [
        event.workflow_task_completed_event_attributes.deployment_version.build_id
        for event in history.events
        if event.HasField("workflow_task_completed_event_attributes")
    ]
    assert (builds[0], builds[-1]) == ("one", "two")


async def test_a_build_that_would_break_an_open_workflow_is_refused_with_its_id(apart: Engine) -> None:
    async with apart.worker(workflows=[_Other], workflow_runner=UnsandboxedWorkflowRunner()):
        event_id = await apart.fire([Step(action="echo", name="one")])
        async with asyncio.timeout(10):
            while (await apart.handle(event_id).describe()).history_length < 5:
                await asyncio.sleep(0.05)
    answer = await _promote(apart.client, "--build-id", "two")

    assert answer.returncode == 1
    assert answer.stdout == ""
    assert f"event:{event_id} would not go on with this code" in answer.stderr
    assert "ondeterminism" in answer.stderr
    assert answer.stderr.count("\n") == 1


async def test_without_a_build_there_is_nothing_to_promote(temporal: Client) -> None:
    answer = await _promote(temporal)

    assert answer.returncode == 1
    assert "LATCHFLOW_BUILD_ID" in answer.stderr


def test_without_a_build_id_versioning_is_off() -> None:
    assert deployment_config("") is None


def test_every_workflow_is_among_those_that_are_replayed() -> None:
    names = {getattr(kind, "__temporal_workflow_definition").name for kind in WORKFLOWS}

    assert names == set(WORKFLOW_TYPES)

"""Plugins switching pipelines, in a real database."""

from uuid import UUID, uuid4

import pytest

from latchflow.sdk import ServiceError
from latchflow.services.resources import Resources
from tests.support.execution import Deployment, Step


async def _pipeline(deployment: Deployment) -> UUID:
    await deployment.define([Step(action="do", name="one")])
    (row,) = await deployment.rows("SELECT id FROM pipelines")
    pipeline_id: UUID = row["id"]
    return pipeline_id


async def test_a_pipeline_gets_a_new_version_and_an_entry_with_the_plugin_as_actor(deployment: Deployment) -> None:
    pipeline_id = await _pipeline(deployment)

    await Resources(deployment.database).set_pipeline_enabled(pipeline_id, False, actor="acme/act")

    assert await deployment.rows("SELECT is_enabled, version FROM pipelines") == [{"is_enabled": False, "version": 2}]
    (entry,) = await deployment.rows("SELECT kind, actor, detail FROM audit_entries WHERE kind = 'admin'")
    assert (entry["actor"], entry["detail"]["fields"], entry["detail"]["version"]) == ("acme/act", ["isEnabled"], 2)


async def test_the_state_that_there_is_changes_nothing(deployment: Deployment) -> None:
    pipeline_id = await _pipeline(deployment)

    await Resources(deployment.database).set_pipeline_enabled(pipeline_id, True, actor="acme/act")

    assert await deployment.rows("SELECT version FROM pipelines") == [{"version": 1}]
    assert await deployment.rows("SELECT seq FROM audit_entries WHERE kind = 'admin'") == []


async def test_a_pipeline_that_is_not_there_is_not_found(deployment: Deployment) -> None:
    with pytest.raises(ServiceError) as caught:
        await Resources(deployment.database).set_pipeline_enabled(uuid4(), True, actor="acme/act")
    assert caught.value.kind == "not_found"

"""Actions that the operator has to switch on."""

import httpx2
import pytest
from fastapi import FastAPI

from latchflow.settings import Settings
from tests.support.api import Query, pointers
from tests.support.plugins import add_plugin
from tests.support.postgres import TestDatabase

_CORE = "@latchflow/core"
_BODY = {"name": "run", "capability": {"plugin": _CORE, "key": "command.run"}, "config": {"argv": ["true"]}}


@pytest.fixture(autouse=True)
def core(app: FastAPI, database: TestDatabase) -> None:
    add_plugin(database.owner_url, _CORE, capabilities={("ACTION", "command.run"): {"type": "object"}})


async def test_an_action_that_is_off_cannot_be_saved_and_the_error_says_how_to_switch_it_on(
    client: httpx2.AsyncClient, query: Query
) -> None:
    answer = await client.post("/admin/actions", json=_BODY)

    assert answer.status_code == 422
    assert pointers(answer) == ["/capability"]
    assert "COMMAND_RUN_ENABLED" in answer.json()["detail"]
    assert query("SELECT 1 FROM action_definitions") == []


async def test_one_that_was_saved_before_can_be_disabled_and_not_enabled_again(client: httpx2.AsyncClient) -> None:
    created = await client.post("/admin/actions", json=_BODY | {"isEnabled": False})
    assert created.status_code == 201
    path, anything = f"/admin/actions/{created.json()['id']}", {"If-Match": "*"}

    assert (await client.patch(path, json={"isEnabled": True}, headers=anything)).status_code == 422
    assert (await client.patch(path, json={"name": "still off"}, headers=anything)).status_code == 200


def test_the_switch_names_an_action_that_is_there() -> None:
    from plugins.core import plugin

    keys = {action.key for action in plugin.actions}

    off = Settings.model_validate({}).switched_off
    assert {key for _, key in off} <= keys
    assert ("@latchflow/core", "command.run") in off
    assert Settings.model_validate({"COMMAND_RUN_ENABLED": "true"}).switched_off == {}

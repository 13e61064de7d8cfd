"""Steps that wait, go over lists or answer to a failure, as the API takes and gives them."""

from typing import Any

import httpx2
import pytest

from tests.support.api import Wiring, pointers

ANY = {"If-Match": "*"}

_DELAY = {"name": "pause", "kind": "delay", "for": "PT5M"}
_APPROVAL = {
    "name": "ask",
    "kind": "approval",
    "approvers": ["ada@example.org"],
    "timeout": "P3D",
    "onTimeout": "reject",
}


async def test_every_kind_of_step_is_given_back_as_it_was_written(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    action = await wiring.action()
    each = {
        "name": "each",
        "actionId": action["id"],
        "forEach": "event.context.list",
        "maxParallel": 3,
        "input": {"value": "item", "at": "index"},
    }
    tell = {"name": "tell", "actionId": action["id"], "input": {"why": "steps.each.error"}}

    pipeline = await wiring.pipeline(steps=[each, _DELAY, _APPROVAL], onFailureSteps=[tell])

    assert [_written(step) for step in pipeline["steps"]] == [each, _DELAY, _APPROVAL]
    assert [_written(step) for step in pipeline["onFailureSteps"]] == [tell]
    assert [step["sortOrder"] for step in pipeline["steps"]] == [0, 1, 2]
    assert (await client.get(f"/admin/pipelines/{pipeline['id']}")).json() == pipeline


def _written(step: dict[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in step.items() if value is not None}
    for name in ("id", "sortOrder", "isEnabled", "onFailure"):
        given.pop(name)
    return {name: value for name, value in given.items() if (name, value) != ("kind", "action")}


@pytest.mark.parametrize(
    ("step", "pointer"),
    [
        ({"kind": "action"}, "/actionId"),
        ({"kind": "delay"}, "/for"),
        ({"kind": "delay", "for": "PT1S", "until": "event.context.at"}, "/for"),
        ({"kind": "delay", "for": "5 minutes"}, "/for"),
        ({"kind": "delay", "for": "PT0S"}, "/for"),
        ({"kind": "delay", "for": "P400D"}, "/for"),
        ({"kind": "delay", "until": "2020-01-01T00:00:00Z"}, "/until"),
        ({"kind": "delay", "until": "nobody.time"}, "/until"),
        ({"kind": "delay", "for": "PT1S", "input": {}}, "/input"),
        ({"kind": "delay", "for": "PT1S", "forEach": "[1]"}, "/forEach"),
        ({"kind": "approval", "for": "PT1S"}, "/for"),
        ({"kind": "approval", "timeout": "soon"}, "/timeout"),
        ({"kind": "approval", "onTimeout": "approve"}, "/onTimeout"),
        ({"kind": "approval", "timeoutSeconds": 5}, "/timeoutSeconds"),
    ],
)
async def test_a_step_that_cannot_be_carried_out_is_422(
    client: httpx2.AsyncClient, wiring: Wiring, step: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/admin/pipelines", json={"name": "p", "steps": [{"name": "one", **step}]})

    assert answer.status_code == 422
    assert pointers(answer) == [f"/steps/0{pointer}"]
    assert (await client.get("/admin/pipelines")).json()["items"] == []


async def test_a_patch_changes_what_a_step_waits_for(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    pipeline = await wiring.pipeline(steps=[_DELAY])
    path = f"/admin/pipelines/{pipeline['id']}/steps/{pipeline['steps'][0]['id']}"

    both = await client.patch(path, json={"until": "event.context.at"}, headers=ANY)
    until = await client.patch(path, json={"until": "event.context.at", "for": None}, headers=ANY)

    assert (both.status_code, pointers(both)) == (422, ["/for"])
    assert (until.json()["until"], until.json()["for"]) == ("event.context.at", None)


@pytest.mark.parametrize("name", ["later", "nobody", "one"])
async def test_an_expression_that_names_an_unknown_or_later_step_is_422(
    client: httpx2.AsyncClient, wiring: Wiring, name: str
) -> None:
    action = await wiring.action()
    steps = [
        {"name": "one", "actionId": action["id"], "input": {"x": f"steps.{name}.output"}},
        {"name": "later", "actionId": action["id"]},
    ]

    answer = await client.post("/admin/pipelines", json={"name": "p", "steps": steps})

    assert answer.status_code == 422
    assert f"steps.{name}" in answer.json()["errors"][0]["detail"]


async def test_a_step_that_another_names_is_not_removed_nor_put_behind_it(
    client: httpx2.AsyncClient, wiring: Wiring
) -> None:
    action = await wiring.action()
    pipeline = await wiring.pipeline(
        steps=[
            {"name": "one", "actionId": action["id"]},
            {"name": "two", "actionId": action["id"], "when": "steps.one.output.ok"},
        ]
    )
    path = f"/admin/pipelines/{pipeline['id']}/steps/{pipeline['steps'][0]['id']}"

    removed = await client.delete(path, headers=ANY)
    moved = await client.patch(path, json={"sortOrder": 7}, headers=ANY)

    assert (removed.status_code, moved.status_code) == (422, 422)
    assert (await client.get(f"/admin/pipelines/{pipeline['id']}")).json() == pipeline


async def test_steps_for_a_failure_are_replaced_as_a_whole(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    action = await wiring.action()
    old, new = ({"name": name, "actionId": action["id"]} for name in ("old", "new"))
    pipeline = await wiring.pipeline(steps=[], onFailureSteps=[old])
    path = f"/admin/pipelines/{pipeline['id']}"

    changed = await client.patch(path, json={"onFailureSteps": [new]}, headers=ANY)
    emptied = await client.patch(path, json={"onFailureSteps": []}, headers=ANY)

    assert [step["name"] for step in changed.json()["onFailureSteps"]] == ["new"]
    assert emptied.json()["onFailureSteps"] == []

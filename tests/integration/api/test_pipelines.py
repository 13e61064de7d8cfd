from typing import Any
from uuid import uuid4

import httpx2
import pytest

from tests.support.api import Query, Wiring, pointers

ANY = {"If-Match": "*"}


async def test_a_pipeline_is_created_with_its_parts_at_once(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    trigger, action = await wiring.trigger(), await wiring.action()
    steps: list[dict[str, Any]] = [
        {"name": "first", "actionId": action["id"], "when": "true", "input": {"a": ["1"]}, "timeoutSeconds": 5},
        {"name": "second", "actionId": action["id"], "onFailure": "continue", "retryPolicy": {"maxAttempts": 1}},
    ]

    pipeline = await wiring.pipeline(triggers=[{"triggerId": trigger["id"]}], steps=steps)

    assert pipeline["triggers"] == [{"triggerId": trigger["id"], "sortOrder": 0, "isEnabled": True}]
    assert [(step["name"], step["sortOrder"]) for step in pipeline["steps"]] == [("first", 0), ("second", 1)]
    assert pipeline["steps"][0]["input"] == {"a": ["1"]}
    assert pipeline["steps"][1]["retryPolicy"]["maxAttempts"] == 1
    assert (await client.get(f"/admin/pipelines/{pipeline['id']}")).json() == pipeline
    assert (await client.get("/admin/pipelines")).json()["items"] == [pipeline]


async def test_a_part_that_names_nothing_creates_nothing(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query
) -> None:
    action = await wiring.action()
    steps = [{"name": "one", "actionId": action["id"]}, {"name": "two", "actionId": str(uuid4())}]

    lost_step = await client.post("/admin/pipelines", json={"name": "x", "steps": steps})
    lost_trigger = await client.post("/admin/pipelines", json={"name": "x", "triggers": [{"triggerId": str(uuid4())}]})

    assert (lost_step.status_code, pointers(lost_step)) == (422, ["/steps/1/actionId"])
    assert (lost_trigger.status_code, pointers(lost_trigger)) == (422, ["/triggers/0/triggerId"])
    assert query("SELECT 1 FROM pipelines") == []
    assert query("SELECT 1 FROM audit_entries WHERE detail->>'object' = 'pipeline'") == []


async def test_steps_are_added_changed_reordered_and_removed(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    action = await wiring.action()
    pipeline = await wiring.pipeline()
    path = f"/admin/pipelines/{pipeline['id']}/steps"

    first = await client.post(path, json={"name": "first", "actionId": action["id"], "when": "true"})
    second = await client.post(path, json={"name": "second", "actionId": action["id"]})
    moved = await client.patch(
        f"{path}/{first.json()['id']}",
        json={"sortOrder": 2, "when": None, "input": {"x": "1"}},
        headers={"If-Match": second.headers["ETag"]},
    )
    listed = await client.get(path)
    pages = [await client.get(path, params={"limit": 1})]
    pages.append(await client.get(path, params={"limit": 1, "cursor": pages[0].json()["nextCursor"]}))
    removed = await client.delete(f"{path}/{second.json()['id']}", headers={"If-Match": moved.headers["ETag"]})

    assert [answer.headers["ETag"] for answer in (first, second, moved, listed, removed)] == [
        '"2"', '"3"', '"4"', '"4"', '"5"',
    ]  # fmt: skip
    assert (first.status_code, removed.status_code) == (201, 204)
    assert moved.json()["when"] is None
    assert [step["name"] for step in listed.json()["items"]] == ["second", "first"]
    assert [page.json()["items"][0]["name"] for page in pages] == ["second", "first"]
    assert pages[1].json()["nextCursor"] is None
    assert [step["name"] for step in (await client.get(path)).json()["items"]] == ["first"]


async def test_triggers_are_attached_changed_and_detached(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    trigger = await wiring.trigger()
    pipeline = await wiring.pipeline()
    path = f"/admin/pipelines/{pipeline['id']}/triggers"

    attached = await client.post(path, json={"triggerId": trigger["id"]})
    twice = await client.post(path, json={"triggerId": trigger["id"]})
    changed = await client.patch(f"{path}/{trigger['id']}", json={"isEnabled": False}, headers={"If-Match": '"2"'})
    detached = await client.delete(f"{path}/{trigger['id']}", headers={"If-Match": '"3"'})
    gone = await client.delete(f"{path}/{trigger['id']}", headers=ANY)

    assert (attached.status_code, twice.status_code) == (201, 409)
    assert changed.json() == {"triggerId": trigger["id"], "sortOrder": 0, "isEnabled": False}
    assert detached.status_code == 204
    assert gone.status_code == 404


async def test_a_part_is_read_by_itself_with_the_etag_of_the_pipeline(
    client: httpx2.AsyncClient, wiring: Wiring
) -> None:
    trigger, action = await wiring.trigger(), await wiring.action()
    pipeline = await wiring.pipeline(
        triggers=[{"triggerId": trigger["id"]}], steps=[{"name": "one", "actionId": action["id"]}]
    )
    base = f"/admin/pipelines/{pipeline['id']}"

    step = await client.get(f"{base}/steps/{pipeline['steps'][0]['id']}")
    attached = await client.get(f"{base}/triggers/{trigger['id']}")

    assert (step.json(), step.headers["ETag"]) == (pipeline["steps"][0], '"1"')
    assert (attached.json(), attached.headers["ETag"]) == (pipeline["triggers"][0], '"1"')
    assert (await client.get(f"{base}/steps/{uuid4()}")).status_code == 404
    assert (await client.get(f"{base}/triggers/{uuid4()}")).status_code == 404


async def test_parts_change_only_with_the_etag_of_the_pipeline(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    trigger, action = await wiring.trigger(), await wiring.action()
    pipeline = await wiring.pipeline(
        triggers=[{"triggerId": trigger["id"]}], steps=[{"name": "one", "actionId": action["id"]}]
    )
    base = f"/admin/pipelines/{pipeline['id']}"
    paths = [base, f"{base}/steps/{pipeline['steps'][0]['id']}", f"{base}/triggers/{trigger['id']}"]

    for path in paths:
        assert (await client.patch(path, json={"isEnabled": False})).status_code == 428
        assert (await client.delete(path)).status_code == 428
        lost = {"If-Match": '"9"'}
        assert (await client.patch(path, json={"isEnabled": False}, headers=lost)).status_code == 412
        assert (await client.delete(path, headers=lost)).status_code == 412


async def test_names_are_taken_once(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    action = await wiring.action()
    pipeline = await wiring.pipeline("main", steps=[{"name": "one", "actionId": action["id"]}])
    await wiring.pipeline("other")

    same = await client.post("/admin/pipelines", json={"name": "main"})
    renamed = await client.patch(f"/admin/pipelines/{pipeline['id']}", json={"name": "other"}, headers=ANY)
    step = await client.post(f"/admin/pipelines/{pipeline['id']}/steps", json={"name": "one", "actionId": action["id"]})

    assert [answer.status_code for answer in (same, renamed, step)] == [409, 409, 409]


async def test_deleting_a_pipeline_leaves_its_definitions(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    trigger, action = await wiring.trigger(), await wiring.action()
    pipeline = await wiring.pipeline(
        triggers=[{"triggerId": trigger["id"]}], steps=[{"name": "one", "actionId": action["id"]}]
    )

    answer = await client.delete(f"/admin/pipelines/{pipeline['id']}", headers={"If-Match": '"1"'})

    assert answer.status_code == 204
    assert (await client.get(f"/admin/pipelines/{pipeline['id']}")).status_code == 404
    assert (await client.delete(f"/admin/triggers/{trigger['id']}", headers=ANY)).status_code == 204
    assert (await client.delete(f"/admin/actions/{action['id']}", headers=ANY)).status_code == 204


@pytest.mark.parametrize(
    "field",
    [
        {"timeoutSeconds": 116},
        {"onFailure": "ignore"},
        {"kind": "loop"},
        {"name": "not-a-name"},
        {"sortOrder": -1},
        {"retryPolicy": {"maxAttempts": 1, "initialIntervalSeconds": 10, "maximumIntervalSeconds": 1}},
        {"forEach": "event.context."},
        {"maxParallel": 2},
        {"until": "2999-01-01T00:00:00Z"},
        {"approvers": ["ada"]},
        {"name": None},
    ],
)
async def test_a_step_outside_the_rules_is_422(
    client: httpx2.AsyncClient, wiring: Wiring, field: dict[str, Any]
) -> None:
    action = await wiring.action()
    pipeline = await wiring.pipeline(steps=[{"name": "one", "actionId": action["id"]}])
    path = f"/admin/pipelines/{pipeline['id']}/steps"

    added = await client.post(path, json={"name": "two", "actionId": action["id"]} | field)
    changed = await client.patch(f"{path}/{pipeline['steps'][0]['id']}", json=field, headers=ANY)

    assert added.status_code == changed.status_code == 422
    assert pointers(added)[0].startswith("/" + next(iter(field)))


async def test_an_expression_that_does_not_compile_is_422_with_step_field_line_and_column(
    client: httpx2.AsyncClient, wiring: Wiring
) -> None:
    action = await wiring.action()
    good = {"name": "good", "actionId": action["id"], "when": "event.context.total > 1"}
    bad = {"name": "bad", "actionId": action["id"], "when": "true &&\n  1 +", "input": {"to": ["nobody.address"]}}
    pipeline = await wiring.pipeline(steps=[good])
    path = f"/admin/pipelines/{pipeline['id']}/steps"

    created = await client.post("/admin/pipelines", json={"name": "x", "steps": [good, bad]})
    added = await client.post(path, json=bad)
    changed = await client.patch(f"{path}/{pipeline['steps'][0]['id']}", json={"when": "steps."}, headers=ANY)

    assert (created.status_code, pointers(created)) == (422, ["/steps/1/when", "/steps/1/input/to/0"])
    assert (added.status_code, pointers(added)) == (422, ["/when", "/input/to/0"])
    assert (changed.status_code, pointers(changed)) == (422, ["/when"])
    detail = created.json()["errors"][0]["detail"]
    assert "'bad', when" in detail
    assert "line 2" in detail
    assert "column" in detail

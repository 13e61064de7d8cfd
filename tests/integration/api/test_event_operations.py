"""Operations on events as the API offers them; there is no Temporal here, so nothing is ever started."""

from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from latchflow.temporal.dispatch import Firing
from tests.support.api import Query, ScopedClient, Wiring, pointers


class Desk:
    """Events of one trigger with one step, or with one step in each of two pipelines."""

    def __init__(self, app: FastAPI, wiring: Wiring) -> None:
        self._dispatcher = app.state.context.dispatcher
        self._wiring = wiring
        self.trigger: dict[str, Any] = {}
        self.action: dict[str, Any] = {}
        self.pipelines: list[dict[str, Any]] = []

    async def set_up(self, *, pipelines: int = 1) -> None:
        self.trigger, self.action = await self._wiring.trigger(), await self._wiring.action()
        step = {"name": "mail", "actionId": self.action["id"]}
        self.pipelines = [
            await self._wiring.pipeline(f"p{n}", triggers=[{"triggerId": self.trigger["id"]}], steps=[step])
            for n in range(pipelines)
        ]

    async def fire(self) -> str:
        accepted = await self._dispatcher.dispatch(Firing(trigger_id=self.trigger["id"], context={"order": 7}))
        return str(accepted.event_id)


@pytest.fixture
async def desk(app: FastAPI, wiring: Wiring) -> Desk:
    desk = Desk(app, wiring)
    await desk.set_up()
    return desk


async def test_an_event_is_cancelled_once_and_then_closed(client: httpx2.AsyncClient, desk: Desk) -> None:
    event_id = await desk.fire()

    answer = await client.post(f"/admin/events/{event_id}/cancel")
    again = await client.post(f"/admin/events/{event_id}/cancel")

    assert (answer.status_code, answer.json()) == (202, {"eventId": event_id})
    assert again.status_code == 409
    assert "CANCELLED" in again.json()["detail"]
    event = (await client.get(f"/admin/events/{event_id}")).json()
    assert (event["status"], event["closedBy"]) == ("CANCELLED", "operator")
    (entry,) = (await client.get(f"/admin/audit?triggerEventId={event_id}&kind=admin")).json()["items"]
    assert (entry["actor"], entry["detail"]["operation"]) == ("bootstrap", "cancel")
    assert (await client.post(f"/admin/events/{uuid4()}/cancel")).status_code == 404


async def test_a_started_event_is_told_again_and_again_and_a_repeat_is_accepted(
    client: httpx2.AsyncClient, desk: Desk, query: Query
) -> None:
    event_id = await desk.fire()
    query("UPDATE events SET start_confirmed_at = now(), status = 'RUNNING' WHERE id = %s", event_id)

    answers = [(await client.post(f"/admin/events/{event_id}/cancel")).status_code for _ in range(3)]

    assert answers == [202, 202, 202]
    assert [row["told_at"] for row in query("SELECT told_at FROM cancellations")] == [None]
    entries = (await client.get(f"/admin/audit?triggerEventId={event_id}&kind=admin")).json()["items"]
    assert len(entries) == 1


async def test_a_run_is_cancelled_alone(client: httpx2.AsyncClient, desk: Desk, wiring: Wiring) -> None:
    step = {"name": "mail", "actionId": desk.action["id"]}
    await wiring.pipeline("another", triggers=[{"triggerId": desk.trigger["id"]}], steps=[step])
    event_id = await desk.fire()
    runs = (await client.get(f"/admin/events/{event_id}")).json()["runs"]

    path = f"/admin/events/{event_id}/runs/{runs[0]['id']}/cancel"
    assert [(await client.post(path)).status_code for _ in range(2)] == [202, 409]
    after = (await client.get(f"/admin/events/{event_id}")).json()
    assert [run["status"] for run in after["runs"]] == ["CANCELLED", "PENDING"]
    assert (await client.post(f"/admin/events/{event_id}/runs/{uuid4()}/cancel")).status_code == 404
    assert (await client.post(f"/admin/events/{uuid4()}/runs/{runs[1]['id']}/cancel")).status_code == 404


async def test_a_rerun_is_a_new_event_that_names_the_old_one(client: httpx2.AsyncClient, desk: Desk) -> None:
    event_id = await desk.fire()
    assert (await client.post(f"/admin/events/{event_id}/rerun")).status_code == 409
    await client.post(f"/admin/events/{event_id}/cancel")

    answer = await client.post(f"/admin/events/{event_id}/rerun", json={"from": "failed", "definitions": "then"})

    assert answer.status_code == 202
    event = (await client.get(f"/admin/events/{answer.json()['eventId']}")).json()
    assert (event["rerunOf"], event["invoker"], event["context"]) == (event_id, "bootstrap", {"order": 7})
    assert event["triggerId"] == desk.trigger["id"]


async def test_the_same_idempotency_key_gives_the_same_event(client: httpx2.AsyncClient, desk: Desk) -> None:
    event_id = await desk.fire()
    await client.post(f"/admin/events/{event_id}/cancel")

    async def rerun(key: str, **body: Any) -> httpx2.Response:
        return await client.post(f"/admin/events/{event_id}/rerun", json=body, headers={"Idempotency-Key": key})

    first, again, other = [(await rerun(key)).json()["eventId"] for key in ("a", "a", "b")]

    assert first == again != other
    assert (await rerun("a", definitions="then")).status_code == 409
    assert (await rerun("x" * 300)).status_code == 422


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"from": "nowhere"}, "/from"),
        ({"from": {"step": "mail", "pipelineId": str(uuid4())}}, "/from"),
        ({"from": ""}, "/from/constrained-str"),
        ({"definitions": "tomorrow"}, "/definitions"),
        ({"force": True}, "/force"),
    ],
)
async def test_a_rerun_that_makes_no_sense_names_the_field(
    client: httpx2.AsyncClient, desk: Desk, body: dict[str, Any], pointer: str
) -> None:
    event_id = await desk.fire()
    await client.post(f"/admin/events/{event_id}/cancel")

    answer = await client.post(f"/admin/events/{event_id}/rerun", json=body)

    assert answer.status_code == 422
    assert pointers(answer)[0].startswith(pointer.partition("/constrained")[0])


async def test_a_test_run_is_an_event_without_a_trigger(client: httpx2.AsyncClient, desk: Desk) -> None:
    patched = await client.patch(
        f"/admin/actions/{desk.action['id']}", json={"isEnabled": False}, headers={"If-Match": "*"}
    )
    assert patched.status_code == 200

    answer = await client.post(f"/admin/actions/{desk.action['id']}/test-run", json={"payload": {"to": "ada"}})

    assert answer.status_code == 202
    event_id = answer.json()["eventId"]
    event = (await client.get(f"/admin/events/{event_id}")).json()
    assert (event["triggerId"], event["invoker"], event["metadata"]) == (None, "bootstrap", {"testRun": True})
    assert event["context"] == {"to": "ada"}
    (run,) = event["runs"]
    assert [invocation["actionId"] for invocation in run["invocations"]] == [desk.action["id"]]
    assert [item["id"] for item in (await client.get("/admin/events")).json()["items"]] == [event_id]
    (entry,) = (await client.get(f"/admin/audit?triggerEventId={event_id}&kind=trigger")).json()["items"]
    assert (entry["actor"], entry["actionDefinitionId"]) == ("bootstrap", desk.action["id"])
    assert (await client.post(f"/admin/actions/{uuid4()}/test-run")).status_code == 404
    refused = await client.post(f"/admin/actions/{desk.action['id']}/test-run", json={"config": {}})
    assert pointers(refused) == ["/config"]


async def test_a_bulk_operation_counts_what_matches_and_waits_for_temporal(
    client: httpx2.AsyncClient, desk: Desk
) -> None:
    ids = [await desk.fire() for _ in range(3)]
    await client.post(f"/admin/events/{ids[0]}/cancel")
    begun = await client.post(
        "/admin/events/bulk", json={"operation": "cancel", "filter": {"triggerId": desk.trigger["id"]}}
    )

    assert begun.status_code == 202
    document = (await client.get(f"/admin/bulk/{begun.json()['id']}")).json()
    assert {name: document[name] for name in ("operation", "filter", "status", "total", "done", "failed")} == {
        "operation": "cancel",
        "filter": {"triggerId": desk.trigger["id"]},
        "status": "PENDING",
        "total": 2,
        "done": 0,
        "failed": 0,
    }
    assert (document["startedBy"], document["ratePerSecond"], document["lastError"]) == ("bootstrap", 10, None)
    entries = (await client.get("/admin/audit?kind=admin&actor=bootstrap&limit=200")).json()["items"]
    (entry,) = [entry for entry in entries if entry["detail"].get("object") == "bulk"]
    assert (entry["detail"]["of"], entry["detail"]["total"]) == ("cancel", 2)


@pytest.mark.parametrize(
    ("wanted", "total"),
    [
        ({"status": "CANCELLED"}, 2),
        ({"status": "FAILED"}, 0),
        ({"status": "RUNNING"}, 0),
        ({"pipelineId": str(uuid4())}, 0),
        ({"firedBefore": "2020-01-01T00:00:00.000000Z"}, 0),
        ({"firedAfter": "2020-01-01T00:00:00.000000Z"}, 2),
        ({"all": True}, 2),
    ],
)
async def test_a_filter_narrows(client: httpx2.AsyncClient, desk: Desk, wanted: dict[str, Any], total: int) -> None:
    for _ in range(2):
        await client.post(f"/admin/events/{await desk.fire()}/cancel")
    await desk.fire()

    begun = await client.post("/admin/events/bulk", json={"operation": "rerun", "filter": wanted})

    assert begun.status_code == 202
    document = (await client.get(f"/admin/bulk/{begun.json()['id']}")).json()
    assert (document["total"], document["filter"]) == (total, wanted)
    if total == 0:
        assert document["status"] == "SUCCEEDED"
        assert document["finishedAt"] is not None


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"operation": "rerun", "filter": {}}, "/filter"),
        ({"operation": "rerun", "filter": {"all": True, "status": "FAILED"}}, "/filter"),
        ({"operation": "rerun", "filter": {"all": False}}, "/filter/all"),
        ({"operation": "rerun", "filter": {"status": "BROKEN"}}, "/filter/status"),
        ({"operation": "delete", "filter": {"all": True}}, "/operation"),
        ({"operation": "rerun", "filter": {"all": True}, "ratePerSecond": 101}, "/ratePerSecond"),
        ({"operation": "rerun", "filter": {"all": True}, "ratePerSecond": 0}, "/ratePerSecond"),
        ({"operation": "rerun", "filter": {"all": True}, "ratePerSecond": 1e-300}, "/ratePerSecond"),
        ({"operation": "cancel", "filter": {"all": True}, "from": "failed"}, ""),
        ({"operation": "rerun"}, "/filter"),
    ],
)
async def test_a_bulk_operation_that_makes_no_sense_names_the_field(
    client: httpx2.AsyncClient, query: Query, body: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/admin/events/bulk", json=body)

    assert answer.status_code == 422
    assert pointers(answer)[0] == pointer
    assert query("SELECT FROM bulk_operations") == []


async def test_operating_needs_its_scope(scoped: ScopedClient, desk: Desk) -> None:
    reader = await scoped("events:read", "definitions:read", name="reader")
    event_id = await desk.fire()

    for path in (
        f"/admin/events/{event_id}/cancel",
        f"/admin/events/{event_id}/runs/{uuid4()}/cancel",
        f"/admin/events/{event_id}/rerun",
        "/admin/events/bulk",
        f"/admin/actions/{desk.action['id']}/test-run",
    ):
        assert (await reader.post(path)).status_code == 403, path
    assert (await reader.get(f"/admin/bulk/{uuid4()}")).status_code == 404


async def test_what_a_test_run_takes_can_be_read_again(client: httpx2.AsyncClient, desk: Desk, query: Query) -> None:
    async def run(depth: int) -> httpx2.Response:
        body = '{"payload":{"a":' + "[" * depth + "1" + "]" * depth + "}}"
        path = f"/admin/actions/{desk.action['id']}/test-run"
        return await client.post(path, content=body, headers={"Content-Type": "application/json"})

    assert [(await run(depth)).status_code for depth in (99, 300)] == [400, 400]
    assert query("SELECT FROM events") == []
    opened = await run(98)
    assert opened.status_code == 202
    assert (await client.get(f"/admin/events/{opened.json()['eventId']}")).status_code == 200

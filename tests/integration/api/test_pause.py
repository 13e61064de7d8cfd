import asyncio
from typing import Any
from uuid import UUID

import httpx2
from fastapi import FastAPI

from latchflow.temporal.dispatch import Firing
from tests.support.api import Query, ScopedClient, Wiring, pointers

HEALTH = "/system/plugin-runtime/health"


async def wired(wiring: Wiring, **fields: Any) -> UUID:
    """A trigger with a pipeline of one step."""
    trigger, action = await wiring.trigger(**fields), await wiring.action()
    steps = [{"name": "one", "actionId": action["id"]}]
    await wiring.pipeline(triggers=[{"triggerId": trigger["id"]}], steps=steps)
    return UUID(trigger["id"])


async def fire(app: FastAPI, trigger_id: UUID) -> str:
    accepted = await app.state.context.dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}))
    return str(accepted.event_id)


async def test_a_pause_says_who_and_why_and_is_seen_in_health(client: httpx2.AsyncClient, query: Query) -> None:
    assert (await client.get(HEALTH)).json()["pause"] == {"isPaused": False, "reason": None, "by": None, "at": None}

    paused = (await client.post("/system/pause", json={"reason": "the mail server is being moved"})).json()
    assert paused == (await client.get(HEALTH)).json()["pause"]
    assert (paused["isPaused"], paused["by"], paused["reason"]) == (True, "bootstrap", "the mail server is being moved")
    assert (await client.post("/system/pause", json={"reason": "again"})).json() == paused

    resumed = (await client.post("/system/resume")).json()
    assert resumed == (await client.get(HEALTH)).json()["pause"]
    assert (resumed["isPaused"], resumed["reason"]) == (False, None)
    assert resumed["at"] > paused["at"]
    rows = query("SELECT actor, detail FROM audit_entries WHERE detail ->> 'object' = 'system' ORDER BY seq")
    assert [(row["actor"], row["detail"]["operation"], row["detail"]["reason"]) for row in rows] == [
        ("bootstrap", "pause", "the mail server is being moved"),
        ("bootstrap", "resume", None),
    ]


async def test_pausing_needs_the_scope_and_a_body_that_is_right(
    client: httpx2.AsyncClient, scoped: ScopedClient
) -> None:
    reader = await scoped("config:read", "events:operate")
    for path in ("/system/pause", "/system/resume"):
        assert (await reader.post(path)).status_code == 403
        wrong = await client.post(path, json={"reason": "", "until": "tomorrow"})
        assert wrong.status_code == 422
        assert sorted(pointers(wrong)) == ["/reason", "/until"]
        assert (await client.post(path, json={"reason": "x" * 501})).status_code == 422
    assert (await client.get(HEALTH)).json()["pause"]["isPaused"] is False


async def test_events_that_come_during_a_pause_say_that_they_wait(
    client: httpx2.AsyncClient, app: FastAPI, wiring: Wiring
) -> None:
    trigger_id = await wired(wiring)
    await client.post("/system/pause")
    event_id = await fire(app, trigger_id)

    event = (await client.get(f"/admin/events/{event_id}")).json()
    assert event["status"] == "PENDING"
    assert event["gate"] == {"verdict": "wait", "reason": "paused", "at": event["firedAt"], "releasedAt": None}
    assert [row["waitingFor"] for row in event["runs"][0]["invocations"]] == ["turn"]
    action_id = event["runs"][0]["invocations"][0]["actionId"]
    executions = (await client.get(f"/admin/actions/{action_id}/executions")).json()
    assert [row["waitingFor"] for row in executions["items"]] == ["turn"]
    (listed,) = (await client.get("/admin/events")).json()["items"]
    assert listed["gate"] == event["gate"]
    health = (await client.get(HEALTH)).json()
    assert (health["waitingEvents"], health["unstartedEvents"]) == (1, 0)


async def test_after_a_pause_the_leading_process_lets_events_in(
    client: httpx2.AsyncClient, app: FastAPI, wiring: Wiring
) -> None:
    trigger_id = await wired(wiring)
    await client.post("/system/pause")
    event_id = await fire(app, trigger_id)
    await client.post("/system/resume")

    async with asyncio.timeout(15):
        while True:
            gate = (await client.get(f"/admin/events/{event_id}")).json()["gate"]
            if gate["releasedAt"] is not None:
                break
            await asyncio.sleep(0.05)
    assert gate["verdict"] == "wait"
    assert (await client.get(HEALTH)).json()["waitingEvents"] == 0

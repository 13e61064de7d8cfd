"""What an EXECUTOR sees and may do."""

from datetime import timedelta
from uuid import uuid4

import httpx2
from fastapi import FastAPI
from fastapi.routing import APIRoute
from temporalio.testing import ActivityEnvironment

from activities.bulk import BulkActivities
from api.app import ROUTERS
from api.auth import Requires
from latchflow.crypto import Keyring
from latchflow.temporal.dispatch import Firing
from tests.integration.api.test_events import FIRED_AT, add_event, add_invocation
from tests.integration.api.users.inviting import accept, add_user
from tests.integration.api.waiting import add_approval
from tests.support.api import Query, TokenClient, Wiring
from tests.support.mailbox import Mailbox


async def test_an_executor_sees_the_events_of_its_triggers_and_pipelines_only(
    client: httpx2.AsyncClient,
    client_with: TokenClient,
    mailbox: Mailbox,
    wiring: Wiring,
    query: Query,
    keyring: Keyring,
) -> None:
    mine, other = await wiring.trigger("mine"), await wiring.trigger("other")
    pipeline = await wiring.pipeline()
    events = {}
    for place, (name, trigger, run_of) in enumerate(
        [
            ("mine", mine, uuid4()),
            ("by pipeline", other, pipeline["id"]),
            ("hidden", other, uuid4()),
            ("ignored", other, None),
        ]
    ):
        events[name] = str(
            add_event(query, keyring, trigger["id"], fired_at=FIRED_AT + timedelta(seconds=place), status="IGNORED")
        )
        if run_of:
            query("INSERT INTO runs VALUES (%s, %s, %s, 'p', 0, 'RUNNING')", uuid4(), events[name], run_of)
    user = await add_user(client, triggerIds=[mine["id"]], pipelineIds=[pipeline["id"]])
    ada = await accept(client_with, mailbox)

    async def seen(path: str = "/admin/events?limit=1") -> list[str]:
        found: list[str] = []
        answer = (await ada.get(path)).json()
        while True:
            found += [item["id"] for item in answer["items"]]
            if answer["nextCursor"] is None:
                return found
            answer = (await ada.get(path, params={"limit": 1, "cursor": answer["nextCursor"]})).json()

    assert await seen() == [events["by pipeline"], events["mine"]]
    assert await seen(f"/admin/triggers/{other['id']}/events?limit=1") == [events["by pipeline"]]
    for name, status in (("mine", 200), ("by pipeline", 200), ("hidden", 404), ("ignored", 404)):
        assert (await ada.get(f"/admin/events/{events[name]}")).status_code == status, name
        assert (await ada.get(f"/admin/events/{events[name]}/history")).status_code == status, name

    await client.patch(f"/admin/users/{user['id']}", json={"triggerIds": []})
    assert await seen() == [events["by pipeline"]]
    await client.patch(f"/admin/users/{user['id']}", json={"pipelineIds": []})
    assert await seen() == []


async def test_an_executor_sees_the_executions_of_visible_events_only(
    client: httpx2.AsyncClient,
    client_with: TokenClient,
    mailbox: Mailbox,
    wiring: Wiring,
    query: Query,
    keyring: Keyring,
) -> None:
    mine, other, action = await wiring.trigger("mine"), await wiring.trigger("other"), await wiring.action()
    visible, hidden = (add_event(query, keyring, trigger["id"]) for trigger in (mine, other))
    for event_id in (visible, hidden):
        add_invocation(query, keyring, event_id, action["id"])
    await add_user(client, triggerIds=[mine["id"]])
    ada = await accept(client_with, mailbox)

    items = (await ada.get(f"/admin/actions/{action['id']}/executions")).json()["items"]

    assert [item["eventId"] for item in items] == [str(visible)]


async def test_an_executor_of_one_pipeline_sees_nothing_of_the_runs_of_others(
    client: httpx2.AsyncClient,
    client_with: TokenClient,
    mailbox: Mailbox,
    wiring: Wiring,
    query: Query,
    keyring: Keyring,
) -> None:
    trigger, action, pipeline = await wiring.trigger(), await wiring.action(), await wiring.pipeline()
    event_id = add_event(query, keyring, trigger["id"])
    mine, _ = (add_invocation(query, keyring, event_id, action["id"]) for _ in range(2))
    query(
        "UPDATE runs SET pipeline_id = %s WHERE id = (SELECT run_id FROM invocations WHERE id = %s)",
        pipeline["id"],
        mine,
    )
    user = await add_user(client, pipelineIds=[pipeline["id"]])
    ada = await accept(client_with, mailbox)

    async def seen() -> list[list[str]]:
        event = (await ada.get(f"/admin/events/{event_id}")).json()
        executions = (await ada.get(f"/admin/actions/{action['id']}/executions")).json()["items"]
        return [
            [invocation["id"] for run in event["runs"] for invocation in run["invocations"]],
            [item["id"] for item in executions],
        ]

    assert await seen() == [[str(mine)], [str(mine)]]
    assert (await ada.get(f"/admin/events/{event_id}/history")).status_code == 403
    await client.patch(f"/admin/users/{user['id']}", json={"triggerIds": [trigger["id"]]})
    assert [len(ids) for ids in await seen()] == [2, 2]
    assert (await ada.get(f"/admin/events/{event_id}/history")).status_code == 503  # there is no Temporal here


async def test_an_executor_decides_about_visible_runs_only_and_under_their_address(
    client: httpx2.AsyncClient,
    client_with: TokenClient,
    mailbox: Mailbox,
    wiring: Wiring,
    query: Query,
    keyring: Keyring,
) -> None:
    approval = await add_approval(wiring, query, keyring, approvers=["ADA@example.org"])
    (run,) = query("SELECT pipeline_id FROM runs")
    pipeline = await wiring.pipeline()
    user = await add_user(client, pipelineIds=[pipeline["id"]])
    ada = await accept(client_with, mailbox)
    path, body = f"/admin/invocations/{approval}/approval", {"decision": "approve"}

    assert (await ada.post(path, json=body)).status_code == 404
    query("UPDATE runs SET pipeline_id = %s WHERE pipeline_id = %s", pipeline["id"], run["pipeline_id"])
    assert (await ada.post(path, json=body)).status_code == 202
    assert query("SELECT decision->>'by' AS by FROM invocations") == [{"by": user["email"]}]


_LIMITED = {
    "GET /admin/events",
    "GET /admin/events/{eventId}",
    "GET /admin/events/{eventId}/history",
    "GET /admin/events/{eventId}/stream",
    "POST /admin/events/{eventId}/cancel",
    "POST /admin/events/{eventId}/runs/{runId}/cancel",
    "POST /admin/events/{eventId}/rerun",
    "POST /admin/events/bulk",
    "GET /admin/bulk/{bulkId}",
    "GET /admin/triggers/{triggerId}/events",
    "GET /admin/actions/{actionId}/executions",
    "POST /admin/invocations/{invocationId}/approval",
}


def test_every_route_that_an_executor_may_call_is_limited() -> None:
    routes = {
        f"{method} {route.path}"
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute)
        for below in route.dependant.dependencies
        if isinstance(below.call, Requires) and below.call.wanted.startswith("events:")
        for method in route.methods or ()
    }

    assert routes == _LIMITED, (
        "An EXECUTOR may call this route: hand `caller.limits` to its query (latchflow/store/visibility.py), test that "
        "it shows nothing of other triggers and pipelines, and add it here."
    )


async def test_an_executor_operates_on_what_it_sees_only(
    client: httpx2.AsyncClient,
    client_with: TokenClient,
    mailbox: Mailbox,
    wiring: Wiring,
    query: Query,
    keyring: Keyring,
) -> None:
    mine, other, action, pipeline = (
        await wiring.trigger("mine"),
        await wiring.trigger("other"),
        await wiring.action(),
        await wiring.pipeline(),
    )
    whole, part, hidden = (add_event(query, keyring, trigger["id"]) for trigger in (mine, other, other))
    (own, foreign) = (add_invocation(query, keyring, part, action["id"]) for _ in range(2))
    query(
        "UPDATE runs SET pipeline_id = %s WHERE id = (SELECT run_id FROM invocations WHERE id = %s)",
        pipeline["id"],
        own,
    )
    query("UPDATE events SET start_confirmed_at = now()")
    await add_user(client, triggerIds=[mine["id"]], pipelineIds=[pipeline["id"]])
    ada = await accept(client_with, mailbox)
    runs = {row["id"]: row["run_id"] for row in query("SELECT id, run_id FROM invocations")}

    async def status(path: str) -> int:
        return (await ada.post(f"/admin/events/{path}")).status_code

    assert [await status(f"{event_id}/cancel") for event_id in (whole, part, hidden)] == [202, 403, 404]
    assert [await status(f"{event_id}/rerun") for event_id in (part, hidden)] == [403, 404]
    assert [await status(f"{part}/runs/{runs[step]}/cancel") for step in (own, foreign)] == [202, 404]
    body = {"operation": "cancel", "filter": {"all": True}}
    begun = {
        name: (await caller.post("/admin/events/bulk", json=body)).json()["id"]
        for name, caller in (("ada", ada), ("admin", client))
    }
    assert (await ada.get(f"/admin/bulk/{begun['ada']}")).json()["total"] == 1
    assert (await client.get(f"/admin/bulk/{begun['admin']}")).json()["total"] == 3
    assert (await ada.get(f"/admin/bulk/{begun['admin']}")).status_code == 404


async def test_an_executor_starts_no_pipeline_of_others_by_a_rerun(
    client: httpx2.AsyncClient, client_with: TokenClient, app: FastAPI, mailbox: Mailbox, wiring: Wiring, query: Query
) -> None:
    context = app.state.context
    trigger, action = await wiring.trigger(), await wiring.action()
    owed = {"triggers": [{"triggerId": trigger["id"]}], "steps": [{"name": "mail", "actionId": action["id"]}]}
    mine = await wiring.pipeline("mine", **owed)
    old = (await context.dispatcher.dispatch(Firing(trigger_id=trigger["id"], context={}))).event_id
    assert (await client.post(f"/admin/events/{old}/cancel")).status_code == 202
    await wiring.pipeline("of others", **owed)
    user = await add_user(client, pipelineIds=[mine["id"]])
    ada = await accept(client_with, mailbox)

    async def rerun(**body: str) -> int:
        return (await ada.post(f"/admin/events/{old}/rerun", json=body)).status_code

    async def bulk(**body: str) -> tuple[int, int]:
        wanted = {"operation": "rerun", "filter": {"all": True}, **body}
        begun = (await ada.post("/admin/events/bulk", json=wanted)).json()["id"]
        activities = BulkActivities(
            context.database, canceller=context.canceller, rerunner=context.rerunner, dispatcher=context.dispatcher
        )
        await ActivityEnvironment().run(activities.continue_bulk, begun)
        document = (await ada.get(f"/admin/bulk/{begun}")).json()
        return document["done"], document["failed"]

    assert (await rerun(), await bulk()) == (403, (0, 1))
    assert query("SELECT count(*) AS count FROM events") == [{"count": 1}]
    assert (await rerun(definitions="then"), await bulk(definitions="then")) == (202, (1, 0))
    await client.patch(f"/admin/users/{user['id']}", json={"triggerIds": [trigger["id"]]})
    assert (await rerun(), await bulk()) == (202, (1, 0))


async def test_an_executor_may_do_nothing_else(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox
) -> None:
    await add_user(client)
    ada = await accept(client_with, mailbox)

    for path in ("triggers", "actions", "pipelines", "plugins", "tokens", "users", "audit"):
        assert (await ada.get(f"/admin/{path}")).status_code == 403, path
    body = {"name": "more", "scopes": ["events:read"]}
    assert (await ada.post("/admin/tokens", json=body)).status_code == 403

"""Users, their invitations, and what a personal token may do; with a real mail server."""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute

from api.app import ROUTERS
from api.auth import Requires
from api.context import Context
from latchflow.crypto import Keyring
from latchflow.key_material import new_encryption_key
from latchflow.services.users import Users
from latchflow.settings import Settings
from tests.integration.api.test_events import FIRED_AT, add_event, add_invocation
from tests.support.api import BOOTSTRAP_TOKEN, Query, ScopedClient, TokenClient, Wiring, pointers
from tests.support.mailbox import Mailbox, running_mailbox
from tests.support.postgres import TestDatabase

PUBLIC = "https://latch.example/app"
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
JSON = {"Accept": "application/json"}


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with running_mailbox() as mailbox:
        yield mailbox


@pytest.fixture
def settings(database: TestDatabase, tmp_path: Path, mailbox: Mailbox) -> Settings:
    return Settings.model_validate(
        {
            "DATABASE_URL": database.url,
            "ENCRYPTION_KEY": new_encryption_key(),
            "LATCHFLOW_BOOTSTRAP_TOKEN": BOOTSTRAP_TOKEN,
            "LATCHFLOW_HOME": tmp_path,
            "LATCHFLOW_PUBLIC_URL": PUBLIC + "/",
            "SMTP_URL": f"smtp://127.0.0.1:{mailbox.port}",
            "SMTP_FROM": "latchflow@example.org",
            "HTTP_EGRESS_ALLOW": "127.0.0.1",
        }
    )


async def add_user(client: httpx2.AsyncClient, email: str = "ada@example.org", **fields: Any) -> dict[str, Any]:
    answer = await client.post("/admin/users", json={"email": email, "role": "EXECUTOR"} | fields)
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


async def accept(client_with: TokenClient, mailbox: Mailbox) -> httpx2.AsyncClient:
    """A client with the personal token of whoever was invited last."""
    answer = await client_with(None).post(f"/invitations/{mailbox.token()}", headers=JSON)
    assert answer.status_code == 200, answer.text
    return client_with(answer.json()["token"])


async def test_a_new_user_is_invited_by_mail(client: httpx2.AsyncClient, mailbox: Mailbox) -> None:
    user = await add_user(client, "Ada@Example.org")

    assert user["status"] == "INVITED"
    assert user["invitation"]["sent"] is True
    assert mailbox.recipients() == ["Ada@Example.org"]
    assert f"{PUBLIC}/invitations/lfk_" in mailbox.messages[0].get_content()


async def test_only_the_hash_of_an_invitation_is_stored(
    client: httpx2.AsyncClient, mailbox: Mailbox, query: Query
) -> None:
    await add_user(client)

    everything = query("SELECT i::text AS row FROM invitations i UNION ALL SELECT a::text FROM audit_entries a")
    assert mailbox.token() not in str(everything)


async def test_an_address_is_one_user_however_it_is_written(client: httpx2.AsyncClient, mailbox: Mailbox) -> None:
    await add_user(client, "ada@example.org")

    answer = await client.post("/admin/users", json={"email": "ADA@example.ORG", "role": "EXECUTOR"})

    assert answer.status_code == 409
    assert len(mailbox.messages) == 1


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"email": "ada"}, "/email"),
        ({"email": "a@b.c\r\nBcc: x@y.z"}, "/email"),
        ({"email": "a@b.c, d@e.f"}, "/email"),
        ({"email": "ada <a@b.c>"}, "/email"),
        ({"role": "OWNER"}, "/role"),
        ({"triggerIds": ["x"]}, "/triggerIds/0"),
        ({"triggerIds": [str(uuid4())]}, "/triggerIds/0"),
        ({"pipelineIds": [str(uuid4())]}, "/pipelineIds/0"),
        ({"status": "ACTIVE"}, "/status"),
    ],
)
async def test_what_is_wrong_with_a_new_user_is_said(
    client: httpx2.AsyncClient, mailbox: Mailbox, query: Query, body: dict[str, Any], pointer: str
) -> None:
    answer = await client.post("/admin/users", json={"email": "a@example.org", "role": "EXECUTOR"} | body)

    assert answer.status_code == 422
    assert pointers(answer) == [pointer]
    assert query("SELECT 1 FROM users") == []
    assert mailbox.messages == []


async def test_an_admin_cannot_be_limited(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    trigger = await wiring.trigger()
    body = {"email": "a@example.org", "role": "ADMIN", "triggerIds": [trigger["id"]]}

    assert (await client.post("/admin/users", json=body)).status_code == 422
    user = await add_user(client, role="ADMIN")
    answer = await client.patch(f"/admin/users/{user['id']}", json={"pipelineIds": [str(uuid4())]})
    assert pointers(answer) == ["/pipelineIds"]


@pytest.mark.parametrize(("answer", "sent"), [("550 no such mailbox lfk_", False), (None, None)])
async def test_a_mail_that_fails_leaves_the_user_invited_and_says_so(
    client: httpx2.AsyncClient, mailbox: Mailbox, answer: str | None, sent: bool | None
) -> None:
    mailbox.answer = answer
    user = await add_user(client)

    assert user["status"] == "INVITED"
    assert user["invitation"]["sent"] is sent
    assert user["invitation"]["problem"]

    mailbox.answer = "250 taken"
    again = await client.post(f"/admin/users/{user['id']}/invitation")
    assert (again.status_code, again.json()["invitation"]["sent"]) == (201, True)


async def test_without_a_public_url_nobody_is_invited(
    app: FastAPI, client: httpx2.AsyncClient, query: Query, mailbox: Mailbox
) -> None:
    context: Context = app.state.context
    users = Users(context.database, context.services.mail, public_url="")
    app.state.context = replace(context, users=users)

    answer = await client.post("/admin/users", json={"email": "a@example.org", "role": "EXECUTOR"})

    assert answer.status_code == 409
    assert "LATCHFLOW_PUBLIC_URL" in answer.json()["detail"]
    assert query("SELECT 1 FROM users") == []


async def test_users_are_listed_by_address_page_by_page(client: httpx2.AsyncClient) -> None:
    for email in ("c@example.org", "A@example.org", "b@example.org"):
        await add_user(client, email)

    first = (await client.get("/admin/users?limit=2")).json()
    second = (await client.get("/admin/users", params={"cursor": first["nextCursor"]})).json()

    assert [user["email"] for user in first["items"]] == ["A@example.org", "b@example.org"]
    assert [user["email"] for user in second["items"]] == ["c@example.org"]
    assert second["nextCursor"] is None


async def test_the_page_of_an_invitation_changes_nothing(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox, query: Query
) -> None:
    await add_user(client)

    answers = [await client_with(None).get(f"/invitations/{mailbox.token()}", headers=HTML) for _ in range(3)]

    assert {answer.status_code for answer in answers} == {200}
    assert query("SELECT status, accepted_at FROM users JOIN invitations ON user_id = users.id") == [
        {"status": "INVITED", "accepted_at": None}
    ]
    page = answers[0]
    assert '<form method="post">' in page.text
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "unsafe-inline" not in page.headers["content-security-policy"]
    assert mailbox.token() not in page.text


async def test_a_name_in_the_page_is_text(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox
) -> None:
    await add_user(client, "a&b'{x}@example.org")

    page = await client_with(None).get(f"/invitations/{mailbox.token()}", headers=HTML)

    assert "a&amp;b&#x27;{x}@example.org" in page.text


async def test_accepting_makes_an_active_user_with_a_token_that_is_shown_once(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox, query: Query
) -> None:
    user = await add_user(client)

    page = await client_with(None).post(f"/invitations/{mailbox.token()}", headers=HTML)

    assert page.status_code == 200
    assert page.headers["cache-control"] == "no-store"
    (token,) = set(re.findall(r"lfk_[\w-]{40,}", page.text))
    assert (await client_with(token).get("/admin/events")).status_code == 200
    assert (await client.get("/admin/users")).json()["items"][0]["status"] == "ACTIVE"
    (entry,) = query("SELECT actor, detail FROM audit_entries WHERE kind = 'auth' AND detail->>'operation' = 'accept'")
    assert entry["actor"] == "ada@example.org"
    assert entry["detail"]["userId"] == user["id"]
    listed = (await client.get("/admin/tokens")).json()["items"][-1]
    assert (listed["userId"], listed["scopes"]) == (user["id"], ["events:read", "events:operate"])


async def test_an_invitation_is_accepted_once_however_many_try_at_once(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox, query: Query
) -> None:
    await add_user(client)
    path, stranger = f"/invitations/{mailbox.token()}", client_with(None)

    answers = await asyncio.gather(*(stranger.post(path, headers=JSON) for _ in range(8)))

    assert sorted(answer.status_code for answer in answers) == [200] + [410] * 7
    assert len(query("SELECT 1 FROM tokens WHERE user_id IS NOT NULL")) == 1


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("statement", "status"),
    [
        ("UPDATE invitations SET expires_at = now()", 410),
        ("UPDATE invitations SET accepted_at = now()", 410),
        ("UPDATE invitations SET revoked_at = now()", 410),
        ("UPDATE users SET status = 'DISABLED'", 410),
        ("DELETE FROM invitations", 404),
    ],
)
async def test_what_opens_nothing_answers_so_and_changes_nothing(
    client: httpx2.AsyncClient,
    client_with: TokenClient,
    mailbox: Mailbox,
    query: Query,
    method: str,
    statement: str,
    status: int,
) -> None:
    await add_user(client)
    query(statement)

    answer = await client_with(None).request(method, f"/invitations/{mailbox.token()}", headers=JSON)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert query("SELECT 1 FROM tokens WHERE user_id IS NOT NULL") == []
    page = await client_with(None).request(method, f"/invitations/{mailbox.token()}", headers=HTML)
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")


async def test_a_tampered_token_is_not_found(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox, query: Query
) -> None:
    await add_user(client)
    token = mailbox.token()
    changed = token[:-1] + ("A" if token[-1] != "A" else "B")

    for path in (changed, token.upper(), "x", "lfk_", token + "%00", f"{token}%0d%0a", "%E2%80%A6"):
        assert (await client_with(None).post(f"/invitations/{path}", headers=JSON)).status_code == 404, path
    assert token not in str(query("SELECT detail FROM audit_entries"))


async def test_an_invitation_is_no_token_of_the_api(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox
) -> None:
    await add_user(client, role="ADMIN")

    assert (await client_with(mailbox.token()).get("/admin/users")).status_code == 401


async def test_a_further_invitation_replaces_the_first_and_then_the_token(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox
) -> None:
    user = await add_user(client)
    first = mailbox.token()
    await client.post(f"/admin/users/{user['id']}/invitation")
    assert (await client_with(None).post(f"/invitations/{first}", headers=JSON)).status_code == 410
    ada = await accept(client_with, mailbox)

    await client.post(f"/admin/users/{user['id']}/invitation")
    assert (await ada.get("/admin/events")).status_code == 200
    renewed = await accept(client_with, mailbox)

    assert (await ada.get("/admin/events")).status_code == 401
    assert (await renewed.get("/admin/events")).status_code == 200


async def test_who_is_disabled_is_out_at_the_next_call(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox, query: Query
) -> None:
    user = await add_user(client)
    ada = await accept(client_with, mailbox)
    await client.post(f"/admin/users/{user['id']}/invitation")

    answer = await client.patch(f"/admin/users/{user['id']}", json={"status": "DISABLED"})

    assert answer.json()["status"] == "DISABLED"
    assert (await ada.get("/admin/events")).status_code == 401
    assert (await client_with(None).post(f"/invitations/{mailbox.token()}", headers=JSON)).status_code == 410
    assert (await client.post(f"/admin/users/{user['id']}/invitation")).status_code == 409
    (entry,) = query("SELECT actor, detail FROM audit_entries WHERE detail->>'operation' = 'update'")
    assert (entry["actor"], entry["detail"]["fields"]) == ("bootstrap", ["status"])

    assert (await client.patch(f"/admin/users/{user['id']}", json={"status": "ACTIVE"})).status_code == 200
    assert (await ada.get("/admin/events")).status_code == 401


async def test_a_status_that_cannot_follow_is_refused(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox
) -> None:
    path = f"/admin/users/{(await add_user(client))['id']}"

    assert (await client.patch(path, json={"status": "ACTIVE"})).status_code == 409
    await client.patch(path, json={"status": "DISABLED"})
    assert (await client.patch(path, json={"status": "ACTIVE"})).status_code == 409
    assert (await client.patch(path, json={"status": "INVITED"})).json()["status"] == "INVITED"
    await client.post(f"{path}/invitation")
    await accept(client_with, mailbox)
    assert (await client.patch(path, json={"status": "INVITED"})).status_code == 409
    assert (await client.patch(f"/admin/users/{uuid4()}", json={})).status_code == 404


async def test_nobody_makes_or_touches_a_user_who_may_do_more(
    client: httpx2.AsyncClient, scoped: ScopedClient, mailbox: Mailbox
) -> None:
    admin = await add_user(client, "root@example.org", role="ADMIN")
    executor = await add_user(client, "ada@example.org")
    plain = await scoped("users:read", "users:write")
    writer = await scoped("users:write", "events:read", "events:operate", name="writer")

    body = {"email": "eve@example.org", "role": "EXECUTOR"}
    assert (await plain.post("/admin/users", json=body)).status_code == 403
    assert (await writer.post("/admin/users", json=body)).status_code == 201
    assert (await writer.post("/admin/users", json=body | {"role": "ADMIN"})).status_code == 403
    assert (await writer.patch(f"/admin/users/{executor['id']}", json={"role": "ADMIN"})).status_code == 403
    assert (await writer.patch(f"/admin/users/{admin['id']}", json={"status": "DISABLED"})).status_code == 403
    assert (await writer.post(f"/admin/users/{admin['id']}/invitation")).status_code == 403
    assert (await client.get("/admin/users")).json()["items"][-1]["status"] == "INVITED"


async def test_a_change_of_role_holds_from_the_next_call_on(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox, wiring: Wiring
) -> None:
    trigger = await wiring.trigger()
    user = await add_user(client, triggerIds=[trigger["id"]])
    ada = await accept(client_with, mailbox)
    assert (await ada.get("/admin/users")).status_code == 403

    changed = await client.patch(f"/admin/users/{user['id']}", json={"role": "ADMIN"})

    assert changed.json()["triggerIds"] == []
    assert (await ada.get("/admin/users")).status_code == 200
    await client.patch(f"/admin/users/{user['id']}", json={"role": "EXECUTOR"})
    assert (await ada.get("/admin/users")).status_code == 403


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


_LIMITED = {
    "GET /admin/events",
    "GET /admin/events/{eventId}",
    "GET /admin/events/{eventId}/history",
    "GET /admin/triggers/{triggerId}/events",
    "GET /admin/actions/{actionId}/executions",
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


async def test_an_executor_may_do_nothing_else(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox
) -> None:
    await add_user(client)
    ada = await accept(client_with, mailbox)

    for path in ("triggers", "actions", "pipelines", "plugins", "tokens", "users", "audit"):
        assert (await ada.get(f"/admin/{path}")).status_code == 403, path
    body = {"name": "more", "scopes": ["events:read"]}
    assert (await ada.post("/admin/tokens", json=body)).status_code == 403

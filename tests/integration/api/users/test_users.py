"""Users, made and changed by admins."""

from dataclasses import replace
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from api.context import Context
from latchflow.services.users import Users
from tests.integration.api.users.inviting import JSON, PUBLIC, accept, add_user
from tests.support.api import Query, ScopedClient, TokenClient, Wiring, pointers
from tests.support.mailbox import Mailbox


async def test_a_new_user_is_invited_by_mail(client: httpx2.AsyncClient, mailbox: Mailbox) -> None:
    user = await add_user(client, "Ada@Example.org")

    assert user["status"] == "INVITED"
    assert user["invitation"]["sent"] is True
    assert mailbox.recipients() == ["Ada@Example.org"]
    assert f"{PUBLIC}/invitations/lfk_" in mailbox.messages[0].get_content()


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


async def test_a_token_that_a_user_makes_may_do_no_more_than_the_user(
    client: httpx2.AsyncClient, client_with: TokenClient, mailbox: Mailbox
) -> None:
    user = await add_user(client, role="ADMIN")
    ada = await accept(client_with, mailbox)

    async def made_with(maker: httpx2.AsyncClient, scope: str) -> httpx2.AsyncClient:
        answer = await maker.post("/admin/tokens", json={"name": "made", "scopes": [scope]})
        return client_with(answer.json()["token"])

    made = await made_with(ada, "*")
    clients = [made, await made_with(made, "*"), await made_with(ada, "users:read")]

    async def statuses(path: str) -> list[int]:
        return [(await one.get(path)).status_code for one in clients]

    assert await statuses("/admin/users") == [200, 200, 200]
    await client.patch(f"/admin/users/{user['id']}", json={"role": "EXECUTOR"})
    assert await statuses("/admin/users") == [403, 403, 403]
    assert await statuses("/admin/events") == [200, 200, 403]
    await client.patch(f"/admin/users/{user['id']}", json={"status": "DISABLED"})
    assert await statuses("/admin/events") == [401, 401, 401]

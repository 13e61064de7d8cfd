"""Invitations: the page behind the link, and accepting."""

import asyncio
import re

import httpx2
import pytest

from tests.integration.api.users.inviting import HTML, JSON, accept, add_user
from tests.support.api import Query, TokenClient
from tests.support.mailbox import Mailbox


async def test_only_the_hash_of_an_invitation_is_stored(
    client: httpx2.AsyncClient, mailbox: Mailbox, query: Query
) -> None:
    await add_user(client)

    everything = query("SELECT i::text AS row FROM invitations i UNION ALL SELECT a::text FROM audit_entries a")
    assert mailbox.token() not in str(everything)


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

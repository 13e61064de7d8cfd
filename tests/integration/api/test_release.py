"""Release links: who has one may download, until it expires, is used up or is revoked."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from api.app import create_app
from latchflow.settings import Settings
from tests.support.api import BOOTSTRAP_TOKEN, Query, TokenClient, pointers

HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture
async def bundle(client: httpx2.AsyncClient) -> str:
    """The path of a bundle with one object, ``a.txt``."""
    answer = await client.post("/admin/bundles", json={"name": "reports"})
    path = f"/admin/bundles/{answer.json()['id']}"
    await client.put(f"{path}/objects/a.txt", content=b"content", headers={"Content-Type": "text/plain"})
    return path


@pytest.fixture
def anyone(client_with: TokenClient) -> httpx2.AsyncClient:
    return client_with(None)


async def link_to(client: httpx2.AsyncClient, bundle: str, **fields: Any) -> dict[str, Any]:
    answer = await client.post(f"{bundle}/links", json={"expiresInSeconds": 60} | fields)
    assert answer.status_code == 201, answer.text
    link: dict[str, Any] = answer.json()
    return link


async def download(client: httpx2.AsyncClient, url: str, path: str = "a.txt") -> httpx2.Response:
    return await client.post(url, data={"path": path})


async def test_a_link_shows_and_hands_out_what_it_releases(
    client: httpx2.AsyncClient, anyone: httpx2.AsyncClient, bundle: str
) -> None:
    link = await link_to(client, bundle)
    seen = await anyone.get(link["url"])
    got = await download(anyone, link["url"])

    assert set(link) == {"id", "url", "expiresAt"}
    assert link["url"].startswith("http://api.example/release/lfk_")
    assert seen.json()["name"] == "reports"
    (entry,) = seen.json()["objects"]["items"]
    assert (entry["path"], entry["size"], entry["contentType"]) == ("a.txt", 7, "text/plain")
    assert (got.status_code, got.content) == (200, b"content")
    assert got.headers["content-disposition"].startswith('attachment; filename="a.txt"')
    for answer in (seen, got):
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_a_browser_gets_a_page_with_a_form_for_each_object(
    client: httpx2.AsyncClient, anyone: httpx2.AsyncClient, bundle: str
) -> None:
    await client.put(f'{bundle}/objects/<script>"alert(1)".txt', content=b"x")
    link = await link_to(client, bundle)

    page = await anyone.get(link["url"], headers=HTML)

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.text.count('<form method="post">') == 2
    assert "<script" not in page.text
    assert 'value="&lt;script&gt;&quot;alert(1)&quot;.txt"' in page.text
    assert link["url"].rpartition("/")[2] not in page.text


async def test_looking_at_a_link_changes_nothing(
    client: httpx2.AsyncClient, anyone: httpx2.AsyncClient, bundle: str, query: Query
) -> None:
    link = await link_to(client, bundle, maxDownloads=1)
    before = query("SELECT * FROM release_links")
    for _ in range(3):
        assert (await anyone.get(link["url"])).status_code == 200
        assert (await anyone.get(link["url"], headers=HTML)).status_code == 200

    assert query("SELECT * FROM release_links") == before
    assert (await download(anyone, link["url"])).status_code == 200


async def test_a_link_is_listed_without_what_opens_it_and_stored_as_a_hash(
    client: httpx2.AsyncClient, anyone: httpx2.AsyncClient, bundle: str, query: Query
) -> None:
    link = await link_to(client, bundle, maxDownloads=5)
    token = link["url"].rpartition("/")[2]
    await download(anyone, link["url"])

    (listed,) = (await client.get(f"{bundle}/links")).json()["items"]
    assert (listed["id"], listed["downloads"], listed["maxDownloads"]) == (link["id"], 1, 5)
    assert listed["createdBy"] == "bootstrap"
    assert listed["lastUsedAt"] is not None
    assert token not in str(listed)
    assert token not in str(query("SELECT * FROM release_links")) + str(query("SELECT * FROM audit_entries"))


async def test_a_link_that_was_used_up_revoked_expired_or_disabled_is_gone(
    client: httpx2.AsyncClient, anyone: httpx2.AsyncClient, bundle: str, query: Query
) -> None:
    used_up = await link_to(client, bundle, maxDownloads=1)
    assert (await download(anyone, used_up["url"])).status_code == 200
    revoked = await link_to(client, bundle)
    for _ in range(2):
        assert (await client.delete(f"{bundle}/links/{revoked['id']}")).status_code == 204
    expired = await link_to(client, bundle)
    query("UPDATE release_links SET expires_at = now() WHERE id = %s", expired["id"])

    for link, word in ((used_up, "as often"), (revoked, "revoked"), (expired, "expired")):
        for answer in (await anyone.get(link["url"]), await download(anyone, link["url"])):
            assert (answer.status_code, answer.json()["code"]) == (410, "gone")
            assert word in answer.json()["detail"]
            assert answer.headers["cache-control"] == "no-store"

    open_link = await link_to(client, bundle)
    await client.patch(bundle, json={"isEnabled": False}, headers={"If-Match": "*"})
    page = await anyone.get(open_link["url"], headers=HTML)
    assert (await download(anyone, open_link["url"])).status_code == 410
    assert (page.status_code, page.headers["content-type"]) == (410, "text/html; charset=utf-8")
    await client.patch(bundle, json={"isEnabled": True}, headers={"If-Match": "*"})
    assert (await download(anyone, open_link["url"])).status_code == 200


async def test_a_token_that_is_none_or_was_tampered_with_opens_nothing(
    client: httpx2.AsyncClient, anyone: httpx2.AsyncClient, bundle: str
) -> None:
    url = (await link_to(client, bundle))["url"]
    last = "A" if url[-1] != "A" else "B"

    start, _, token = url.rpartition("/")
    wrong_tokens = (token[:-1] + last, token[:-1], token + "A", token + "%00", token.upper(), "x", "lfk_%ff")
    for wrong in (f"{start}/{wrong_token}" for wrong_token in wrong_tokens):
        for answer in (await anyone.get(wrong), await download(anyone, wrong)):
            assert answer.status_code == 404, wrong
            assert "lfk_" not in answer.text
    assert (await anyone.get(f"/release/{BOOTSTRAP_TOKEN}")).status_code == 404
    assert (await anyone.get("/admin/bundles", headers={"Authorization": f"Bearer {url[-47:]}"})).status_code == 401


async def test_what_a_link_does_not_release_uses_no_download(
    client: httpx2.AsyncClient, anyone: httpx2.AsyncClient, bundle: str
) -> None:
    link = await link_to(client, bundle, maxDownloads=1)

    for path in ("b.txt", "A.txt"):
        assert (await download(anyone, link["url"], path)).status_code == 404
    for path in ("../a.txt", "", "/a.txt", "a.txt\x00", "a" * 1025):
        assert (await download(anyone, link["url"], path)).status_code == 422, path
    no_path = await anyone.post(link["url"], data={"file": "a.txt"})
    assert (no_path.status_code, pointers(no_path)) == (422, ["/path"])
    assert (await anyone.post(link["url"], json=["a.txt"])).status_code == 422
    assert (
        await anyone.post(link["url"], content=b"{", headers={"Content-Type": "application/json"})
    ).status_code == 400
    assert (await anyone.post(link["url"], content=b"a.txt")).status_code == 415
    assert (await anyone.post(link["url"], json={"path": "a.txt"})).content == b"content"


async def test_a_link_lives_and_counts_within_limits(client: httpx2.AsyncClient, bundle: str) -> None:
    for body, pointer in (
        ({}, "/expiresInSeconds"),
        ({"expiresInSeconds": 0}, "/expiresInSeconds"),
        ({"expiresInSeconds": 367 * 86400}, "/expiresInSeconds"),
        ({"expiresInSeconds": "60"}, "/expiresInSeconds"),
        ({"expiresInSeconds": 60, "maxDownloads": 0}, "/maxDownloads"),
        ({"expiresInSeconds": 60, "maxDownloads": True}, "/maxDownloads"),
        ({"expiresInSeconds": 60, "url": "x"}, "/url"),
    ):
        answer = await client.post(f"{bundle}/links", json=body)
        assert (answer.status_code, pointers(answer)) == (422, [pointer]), body
    unknown = "/admin/bundles/6a0f0d4e-0000-4000-8000-000000000000/links"
    assert (await client.post(unknown, json={"expiresInSeconds": 60})).status_code == 404
    assert (await client.get(unknown)).status_code == 404
    assert (await client.delete(f"{bundle}/links/6a0f0d4e-0000-4000-8000-000000000000")).status_code == 404
    link = await link_to(client, bundle, expiresInSeconds=3600)
    left = datetime.fromisoformat(link["expiresAt"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


async def test_without_a_public_url_no_link_is_made(
    settings: Settings, client: httpx2.AsyncClient, bundle: str
) -> None:
    app = create_app(settings.model_copy(update={"public_url": ""}))
    headers = {"Authorization": f"Bearer {BOOTSTRAP_TOKEN}"}
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://x", headers=headers) as other,
    ):
        answer = await other.post(f"{bundle}/links", json={"expiresInSeconds": 60})

    assert answer.status_code == 409
    assert "LATCHFLOW_PUBLIC_URL" in answer.json()["detail"]
    assert (await client.get(f"{bundle}/links")).json()["items"] == []


async def test_the_objects_of_a_link_come_page_after_page(
    client: httpx2.AsyncClient, anyone: httpx2.AsyncClient, bundle: str
) -> None:
    await client.put(f"{bundle}/objects/b.txt", content=b"x")
    link = await link_to(client, bundle)
    first = (await anyone.get(link["url"], params={"limit": 1})).json()["objects"]
    page = await anyone.get(link["url"], params={"limit": 1}, headers=HTML)

    second = await anyone.get(link["url"], params={"cursor": first["nextCursor"]})
    assert [entry["path"] for entry in second.json()["objects"]["items"]] == ["b.txt"]
    assert f'href="?cursor={first["nextCursor"]}"' in page.text
    other = await link_to(client, bundle)
    assert (await anyone.get(other["url"], params={"cursor": first["nextCursor"]})).status_code == 422


async def test_of_many_who_take_the_last_download_at_once_one_gets_it(
    settings: Settings, app: FastAPI, client: httpx2.AsyncClient, bundle: str
) -> None:
    second = create_app(settings)
    async with second.router.lifespan_context(second):
        for _ in range(5):
            link = await link_to(client, bundle, maxDownloads=1)
            transports = [httpx2.ASGITransport(app=one) for one in (app, second)]
            clients = [httpx2.AsyncClient(transport=one, base_url="http://api.example") for one in transports]
            answers = await asyncio.gather(*(download(clients[number % 2], link["url"]) for number in range(10)))
            for one in clients:
                await one.aclose()

            assert sorted(answer.status_code for answer in answers) == [200] + [410] * 9

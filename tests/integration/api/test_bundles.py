"""Bundles and their objects, over HTTP."""

import asyncio
import hashlib
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from uuid import uuid4

import httpx2
import pytest
from fastapi import FastAPI

from api.context import Context
from tests.support.api import BOOTSTRAP_TOKEN, Query, ScopedClient, pointers

CONTENT = bytes(range(256)) * 1000
UNKNOWN = "6a0f0d4e-0000-4000-8000-000000000000"


@pytest.fixture
def storage_dir(tmp_path: Path) -> Path:
    return tmp_path / "storage"


@pytest.fixture
async def bundle(client: httpx2.AsyncClient) -> str:
    """The path of a bundle."""
    answer = await client.post("/admin/bundles", json={"name": "reports"})
    assert answer.status_code == 201, answer.text
    return f"/admin/bundles/{answer.json()['id']}"


def files_in(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


async def remove_leftovers(app: FastAPI, query: Query) -> None:
    """As the chore does, once what is due later is due."""
    query("UPDATE storage_uploads SET remove_after = now()")
    context: Context = app.state.context
    await context.services.storage.remove_leftovers()


async def test_a_bundle_is_created_read_changed_listed_and_deleted(client: httpx2.AsyncClient, query: Query) -> None:
    created = await client.post("/admin/bundles", json={"name": "reports", "description": "monthly"})
    path = f"/admin/bundles/{created.json()['id']}"
    read = await client.get(path)
    changed = await client.patch(path, json={"isEnabled": False}, headers={"If-Match": read.headers["etag"]})
    listed = await client.get("/admin/bundles")
    deleted = await client.delete(path, headers={"If-Match": changed.headers["etag"]})

    assert (created.json()["description"], created.json()["isEnabled"]) == ("monthly", True)
    assert read.json() == {**created.json(), "objects": {"items": [], "nextCursor": None}}
    assert (changed.json()["isEnabled"], changed.json()["version"]) == (False, 2)
    assert listed.json()["items"] == [changed.json()]
    assert deleted.status_code == 204
    assert (await client.get(path)).status_code == 404
    entries = query("SELECT detail->>'operation' AS what FROM audit_entries WHERE detail->>'object' = 'bundle'")
    assert [entry["what"] for entry in entries] == ["create", "update", "delete"]


async def test_the_rules_of_definitions_hold_for_bundles(client: httpx2.AsyncClient, bundle: str) -> None:
    assert (await client.post("/admin/bundles", json={"name": "reports"})).status_code == 409
    assert pointers(await client.post("/admin/bundles", json={"name": "x", "size": 1})) == ["/size"]
    assert (await client.patch(bundle, json={"name": "x"})).status_code == 428
    assert (await client.patch(bundle, json={"name": "x"}, headers={"If-Match": '"9"'})).status_code == 412
    assert (await client.delete(bundle)).status_code == 428
    assert (await client.get(f"/admin/bundles/{UNKNOWN}")).status_code == 404
    assert (await client.get("/admin/bundles/x")).status_code == 422


async def test_an_object_comes_back_as_it_went_in(client: httpx2.AsyncClient, bundle: str, storage_dir: Path) -> None:
    stored = await client.put(f"{bundle}/objects/2026/märz.pdf", content=CONTENT, headers={"Content-Type": "a/b; c=d"})
    read = await client.get(f"{bundle}/objects/2026/märz.pdf")

    digest = hashlib.sha256(CONTENT).hexdigest()
    assert stored.status_code == 201, stored.text
    assert stored.json() | {"createdAt": ""} == {
        "path": "2026/märz.pdf",
        "size": len(CONTENT),
        "sha256": digest,
        "contentType": "a/b; c=d",
        "createdAt": "",
        "createdBy": "bootstrap",
    }
    assert read.status_code == 200
    assert read.content == CONTENT
    assert read.headers["content-type"] == "a/b; c=d"
    assert read.headers["etag"] == f'"{digest}"'
    assert read.headers["content-length"] == str(len(CONTENT))
    assert read.headers["x-content-type-options"] == "nosniff"
    assert read.headers["content-disposition"] == ("attachment; filename=\"m_rz.pdf\"; filename*=UTF-8''m%C3%A4rz.pdf")
    (file,) = files_in(storage_dir)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert {stat.S_IMODE(folder.stat().st_mode) for folder in (storage_dir, file.parent)} == {0o700}


async def test_an_object_that_the_caller_has_is_not_sent_again(client: httpx2.AsyncClient, bundle: str) -> None:
    await client.put(f"{bundle}/objects/a", content=b"abc")
    etag = (await client.get(f"{bundle}/objects/a")).headers["etag"]

    again = await client.get(f"{bundle}/objects/a", headers={"If-None-Match": f'"x", {etag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert (await client.get(f"{bundle}/objects/a", headers={"If-None-Match": '"x"'})).status_code == 200


async def test_an_object_comes_whole_whatever_range_is_asked_for(client: httpx2.AsyncClient, bundle: str) -> None:
    await client.put(f"{bundle}/objects/a", content=b"abc")

    for asked in ("bytes=0-1", "bytes=9-1", "bytes=-0", "bytes=99999999-", "lines=1-2", "bytes=a-b"):
        answer = await client.get(f"{bundle}/objects/a", headers={"Range": asked})
        assert (answer.status_code, answer.content, answer.headers["accept-ranges"]) == (200, b"abc", "none")


async def test_an_empty_object_is_one(client: httpx2.AsyncClient, bundle: str) -> None:
    assert (await client.put(f"{bundle}/objects/empty", content=b"")).status_code == 201
    assert (await client.get(f"{bundle}/objects/empty")).content == b""


async def test_a_second_object_of_a_path_replaces_the_first_and_the_first_one_s_content_goes(
    app: FastAPI, client: httpx2.AsyncClient, bundle: str, storage_dir: Path, query: Query
) -> None:
    await client.put(f"{bundle}/objects/a", content=b"first")
    second = await client.put(f"{bundle}/objects/a", content=b"second")
    before = len(files_in(storage_dir))
    await remove_leftovers(app, query)

    assert second.status_code == 200
    assert (await client.get(f"{bundle}/objects/a")).content == b"second"
    assert (before, len(files_in(storage_dir))) == (2, 1)
    assert query("SELECT * FROM storage_uploads") == []


async def test_the_contents_of_a_deleted_object_and_bundle_go(
    app: FastAPI, client: httpx2.AsyncClient, bundle: str, storage_dir: Path, query: Query
) -> None:
    for path in ("a", "b", "c"):
        await client.put(f"{bundle}/objects/{path}", content=b"x")
    deleted = await client.delete(f"{bundle}/objects/a")
    await remove_leftovers(app, query)
    left = len(files_in(storage_dir))
    await client.delete(bundle, headers={"If-Match": "*"})
    await remove_leftovers(app, query)

    assert (deleted.status_code, (await client.delete(f"{bundle}/objects/a")).status_code) == (204, 404)
    assert left == 2
    assert list(storage_dir.iterdir()) == []


async def test_objects_are_listed_by_path_page_after_page(client: httpx2.AsyncClient, bundle: str) -> None:
    for path in ("b", "a/2", "a/10", "ä"):
        await client.put(f"{bundle}/objects/{path}", content=path.encode())
    paths: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = await client.get(bundle, params={"limit": 3} | ({"cursor": cursor} if cursor else {}))
        paths += [entry["path"] for entry in page.json()["objects"]["items"]]
        cursor = page.json()["objects"]["nextCursor"]

    assert paths == ["a/10", "a/2", "b", "ä"]
    assert (await client.get(bundle, params={"cursor": "eyJ"})).status_code == 422


TRAVERSALS = [
    "../../../etc/passwd",
    "%2e%2e/%2e%2e/etc/passwd",
    "a/%2e%2e/%2e%2e/b",
    "a%2f..%2f..%2fb",
    "..%2f..%2fb",
    "%252e%252e%252fb",
    "a/%252E%252e/b",
    "a%5cb",
    "..%5c..%5cb",
    "a%255cb",
    "%2fetc/passwd",
    "/etc/passwd",
    "a//b",
    "a/./b",
    "a/",
    "%00",
    "a%00.txt",
    "a%2500b",
    "a%0db",
    "a%09b",
    "a%7f",
    "%c2%85",
    "%e2%80%a8",
    "%ff%fe",
    "%c0%ae%c0%ae/b",
    "x" * 1025,
    "%c3%a4" * 513,
]


WHOLE = {"type": "http.request", "body": b"x"}


async def raw_request(app: FastAPI, method: str, path: str, *messages: dict[str, Any]) -> tuple[int, str]:
    """A request whose path no client tidies up, decoded as the server decodes it: status and body."""
    sent: list[Any] = []
    to_receive = list(messages or (WHOLE,))

    async def receive() -> dict[str, Any]:
        return to_receive.pop(0) if to_receive else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"api.example"), (b"authorization", f"Bearer {BOOTSTRAP_TOKEN}".encode())],
    }
    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode()


@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
async def test_a_path_that_could_lead_elsewhere_is_refused(
    app: FastAPI, bundle: str, storage_dir: Path, method: str
) -> None:
    for path in TRAVERSALS:
        status, text = await raw_request(app, method, f"{bundle}/objects/{path}")

        assert status == 422, (path, text)
        assert "cannot be the path" in text
    assert files_in(storage_dir) == []


async def test_a_path_of_two_lines_leads_nowhere(app: FastAPI, bundle: str) -> None:
    assert (await raw_request(app, "PUT", f"{bundle}/objects/a%0d%0aSet-Cookie:x"))[0] == 404


async def test_objects_of_what_is_not_there_are_not_found(client: httpx2.AsyncClient, bundle: str) -> None:
    assert (await client.put(f"/admin/bundles/{UNKNOWN}/objects/a", content=b"x")).status_code == 404
    assert (await client.get(f"/admin/bundles/{UNKNOWN}/objects/a")).status_code == 404
    assert (await client.get(f"{bundle}/objects/a")).status_code == 404
    assert (await client.put("/admin/bundles/none/objects/a", content=b"x")).status_code == 422


async def test_a_content_type_that_is_none_is_refused(client: httpx2.AsyncClient, bundle: str) -> None:
    for content_type in ("pdf", "a/b c", "a/", "a/" + "b" * 300, "a/b; c", "a/b\x01"):
        answer = await client.put(f"{bundle}/objects/a", content=b"x", headers={"Content-Type": content_type})
        assert answer.status_code == 422, content_type


async def test_an_object_may_be_larger_than_a_body_but_not_than_its_own_limit(
    app: FastAPI, client: httpx2.AsyncClient, bundle: str, storage_dir: Path, query: Query
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(100_000)

    fits = await client.put(f"{bundle}/objects/a", content=bytes(1_000_000))
    announced = await client.put(f"{bundle}/objects/a", content=bytes(1_000_001))
    unannounced = await client.put(f"{bundle}/objects/a", content=endless())

    assert fits.status_code == 201
    assert (announced.status_code, announced.json()["code"]) == (413, "too_large")
    assert (unannounced.status_code, unannounced.json()["code"]) == (413, "too_large")
    assert len((await client.get(f"{bundle}/objects/a")).content) == 1_000_000
    await remove_leftovers(app, query)
    assert len(files_in(storage_dir)) == 1


async def test_an_upload_that_breaks_leaves_the_former_object_and_nothing_else(
    app: FastAPI, client: httpx2.AsyncClient, bundle: str, storage_dir: Path, query: Query
) -> None:
    await client.put(f"{bundle}/objects/a", content=b"whole")
    half = {"type": "http.request", "body": b"half", "more_body": True}
    status, _ = await raw_request(app, "PUT", f"{bundle}/objects/a", half, {"type": "http.disconnect"})

    assert status == 400
    assert (await client.get(f"{bundle}/objects/a")).content == b"whole"
    await remove_leftovers(app, query)
    assert len(files_in(storage_dir)) == 1
    assert query("SELECT * FROM storage_uploads") == []


async def test_an_upload_that_was_given_up_makes_no_object(
    app: FastAPI, client: httpx2.AsyncClient, bundle: str, storage_dir: Path, query: Query
) -> None:
    async def stalling() -> AsyncIterator[bytes]:
        yield b"half"
        await remove_leftovers(app, query)  # as if a quarter of an hour had passed
        yield b"whole"

    answer = await client.put(f"{bundle}/objects/a", content=stalling())

    assert answer.status_code == 503
    assert (await client.get(f"{bundle}/objects/a")).status_code == 404
    await remove_leftovers(app, query)
    assert files_in(storage_dir) == []


async def test_a_bundle_that_is_deleted_during_an_upload_gets_no_object(
    app: FastAPI, client: httpx2.AsyncClient, bundle: str, storage_dir: Path, query: Query
) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"x"
        await client.delete(bundle, headers={"If-Match": "*"})

    answer = await client.put(f"{bundle}/objects/a", content=content())

    assert answer.status_code == 404
    await remove_leftovers(app, query)
    assert files_in(storage_dir) == []


async def test_of_two_uploads_to_one_path_the_later_end_wins_and_the_other_one_s_content_goes(
    app: FastAPI, client: httpx2.AsyncClient, bundle: str, storage_dir: Path, query: Query
) -> None:
    both = asyncio.Barrier(2)

    async def content(text: bytes) -> AsyncIterator[bytes]:
        yield text
        await both.wait()

    answers = await asyncio.gather(
        *(client.put(f"{bundle}/objects/a", content=content(text)) for text in (b"one", b"two"))
    )
    await remove_leftovers(app, query)

    assert sorted(answer.status_code for answer in answers) == [200, 201]
    winner = next(answer for answer in answers if answer.status_code == 200)
    assert (await client.get(f"{bundle}/objects/a")).headers["etag"] == f'"{winner.json()["sha256"]}"'
    assert len(files_in(storage_dir)) == 1


async def test_content_that_was_lost_is_an_error_that_says_so(
    client: httpx2.AsyncClient, bundle: str, storage_dir: Path
) -> None:
    await client.put(f"{bundle}/objects/a", content=b"x")
    for file in files_in(storage_dir):
        file.unlink()

    answer = await client.get(f"{bundle}/objects/a")

    assert answer.status_code == 502
    assert "lost the content" in answer.json()["detail"]


async def test_a_folder_that_cannot_be_used_is_said_and_can_be_tried_again(
    client: httpx2.AsyncClient, bundle: str, storage_dir: Path
) -> None:
    storage_dir.write_text("not a folder")

    answer = await client.put(f"{bundle}/objects/a", content=b"x")

    assert answer.status_code == 503
    assert "LATCHFLOW_STORAGE_DIR" in answer.json()["detail"]
    assert str(storage_dir) not in answer.text


async def test_each_route_asks_for_its_scope(scoped: ScopedClient, bundle: str) -> None:
    reader = await scoped("storage:read", name="reader")
    writer = await scoped("storage:write", name="writer")

    calls: list[tuple[httpx2.AsyncClient, str, str, dict[str, Any]]] = [
        (reader, "POST", "/admin/bundles", {"json": {"name": "x"}}),
        (reader, "PATCH", bundle, {"json": {}}),
        (reader, "DELETE", bundle, {}),
        (reader, "PUT", f"{bundle}/objects/a", {"content": b"x"}),
        (reader, "DELETE", f"{bundle}/objects/a", {}),
        (reader, "POST", f"{bundle}/links", {"json": {"expiresInSeconds": 60}}),
        (reader, "DELETE", f"{bundle}/links/{uuid4()}", {}),
        (writer, "GET", bundle, {}),
        (writer, "GET", f"{bundle}/objects/a", {}),
        (writer, "GET", f"{bundle}/links", {}),
    ]
    for client, method, path, options in calls:
        assert (await client.request(method, path, **options)).status_code == 403, (method, path)

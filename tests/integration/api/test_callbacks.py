"""``POST /callbacks/{token}``, in an API that cannot reach Temporal."""

import asyncio
import json
from typing import Any

import httpx2
import pytest

from latchflow.crypto import Keyring
from latchflow.settings import Settings
from latchflow.store import places
from tests.integration.api.waiting import add_token, add_waiting, document
from tests.support.api import JSON, Query, TokenClient, Wiring
from tests.support.postgres import Server, TestDatabase

_AUDIT = "SELECT kind, actor, detail, invocation_id FROM audit_entries WHERE detail ? 'callback' ORDER BY seq"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_body_bytes": 1024 * 1024})


@pytest.fixture
def sender(client_with: TokenClient) -> httpx2.AsyncClient:
    """Whoever was told an address; no token of ours."""
    return client_with(None)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"json": {"state": "ready", "ü": [1, None]}}, ({"state": "ready", "ü": [1, None]}, JSON)),
        ({"content": b"[1]", "headers": {"Content-Type": "application/cloudevents+json; x=y"}}, ([1], None)),
        (
            {"content": "fertig ü".encode(), "headers": {"Content-Type": "text/plain; charset=utf-8"}},
            ("fertig ü", None),
        ),
        ({}, (None, "")),
    ],
    ids=["json", "of a kind of JSON", "text", "nothing"],
)
async def test_a_callback_is_taken_and_sealed_though_temporal_is_away(
    sender: httpx2.AsyncClient,
    wiring: Wiring,
    query: Query,
    keyring: Keyring,
    sent: dict[str, Any],
    kept: tuple[Any, str | None],
) -> None:
    invocation_id = await add_waiting(wiring, query, keyring)
    token = add_token(query, invocation_id)

    answer = await sender.post(f"/callbacks/{token}", **sent)

    assert (answer.status_code, answer.json()) == (202, {})
    (row,) = query("SELECT * FROM callbacks")
    assert row["used_at"] is not None
    assert row["seen_at"] is None
    opened = keyring.open_json(row["body_sealed"], places.callback_body(invocation_id))
    body, content_type = kept
    expected = sent.get("headers", {}).get("Content-Type") if content_type is None else content_type
    assert opened == {"body": body, "contentType": expected}
    (entry,) = query(_AUDIT)
    assert (entry["kind"], entry["invocation_id"]) == ("action", invocation_id)
    assert entry["detail"]["callback"] == "accepted"


async def test_an_address_that_was_called_is_used_up(
    sender: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    token = add_token(query, await add_waiting(wiring, query, keyring))
    await sender.post(f"/callbacks/{token}", json={"first": True})
    before = query("SELECT * FROM callbacks")

    answer = await sender.post(f"/callbacks/{token}", json={"first": False})

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert query("SELECT * FROM callbacks") == before
    assert [entry["detail"]["callback"] for entry in query(_AUDIT)] == ["accepted", "used"]


async def test_of_many_calls_at_once_one_is_taken(
    sender: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    token = add_token(query, await add_waiting(wiring, query, keyring))

    answers = await asyncio.gather(*(sender.post(f"/callbacks/{token}", json=number) for number in range(8)))

    assert sorted(answer.status_code for answer in answers) == [202] + [409] * 7


async def test_when_its_invocation_has_ended_the_address_is_gone(
    sender: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    token = add_token(query, await add_waiting(wiring, query, keyring))
    query("UPDATE invocations SET status = 'CANCELLED', ended_at = now()")

    answer = await sender.post(f"/callbacks/{token}", json={})

    assert (answer.status_code, answer.json()["code"]) == (410, "gone")
    assert query("SELECT used_at FROM callbacks") == [{"used_at": None}]


async def test_a_token_that_was_tampered_with_or_never_made_opens_nothing(
    sender: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    token = add_token(query, await add_waiting(wiring, query, keyring))
    last = "A" if token[-1] != "A" else "B"
    for wrong in (token[:-1] + last, token[:-1], token + "A", token.upper(), "lfk_" + "x" * 43, "x", "%00", "ü"):
        answer = await sender.post(f"/callbacks/{wrong}", json={})

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found"), wrong
        assert wrong not in answer.text or len(wrong) < 4
    assert query("SELECT used_at FROM callbacks") == [{"used_at": None}]
    assert {entry["detail"]["callback"] for entry in query(_AUDIT)} == {"unknown"}
    assert token[8:40] not in json.dumps(query("SELECT detail FROM audit_entries"), default=str)


async def test_a_flood_of_unknown_tokens_does_not_flood_the_audit(sender: httpx2.AsyncClient, query: Query) -> None:
    for _ in range(320):
        await sender.post("/callbacks/lfk_" + "x" * 43, json={})

    assert len(query(_AUDIT)) <= 300


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
async def test_whoever_follows_the_link_changes_nothing(
    sender: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring, method: str
) -> None:
    token = add_token(query, await add_waiting(wiring, query, keyring))

    answer = await sender.request(method, f"/callbacks/{token}")

    assert answer.status_code == 405
    assert query("SELECT used_at FROM callbacks") == [{"used_at": None}]


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"x" * (256 * 1024 + 1), "text/plain", 413),
        (b"{}", None, 415),
        (b"<a/>", "application/xml", 415),
        (b"a=b", "application/x-www-form-urlencoded", 415),
        (b"{", JSON, 400),
        (b'{"n": NaN}', JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b"[" * 101 + b"1" + b"]" * 101, JSON, 400),
        (b'"\\u0000"', JSON, 422),
        (b'{"\\ud800": 1}', JSON, 422),
        (b"\xff", "text/plain", 400),
        (b"\x00", "text/plain", 422),
    ],
)
async def test_a_body_that_cannot_be_taken_does_not_use_the_address_up(
    sender: httpx2.AsyncClient,
    wiring: Wiring,
    query: Query,
    keyring: Keyring,
    content: bytes,
    content_type: str | None,
    status: int,
) -> None:
    token = add_token(query, await add_waiting(wiring, query, keyring))
    headers = {"Content-Type": content_type} if content_type else {}

    answer = await sender.post(f"/callbacks/{token}", content=content, headers=headers)

    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert query("SELECT used_at FROM callbacks") == [{"used_at": None}]
    assert (
        await sender.post(f"/callbacks/{token}", content=b"x" * (256 * 1024), headers={"Content-Type": "text/a"})
    ).status_code == 202


async def test_without_postgres_the_sender_is_told_to_come_again_and_then_taken(
    sender: httpx2.AsyncClient,
    wiring: Wiring,
    query: Query,
    keyring: Keyring,
    postgres: Server,
    database: TestDatabase,
) -> None:
    token = add_token(query, await add_waiting(wiring, query, keyring))
    postgres.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS false')
    postgres.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'")  # noqa: S608
    try:
        away = await sender.post(f"/callbacks/{token}", json={})
    finally:
        postgres.execute(f'ALTER DATABASE "{database.name}" ALLOW_CONNECTIONS true')
    async with asyncio.timeout(30):
        while (back := await sender.post(f"/callbacks/{token}", json={})).status_code == 503:
            await asyncio.sleep(0.1)

    assert away.status_code == 503
    assert int(away.headers["retry-after"]) > 0
    assert back.status_code == 202


async def test_the_document_of_the_event_says_what_is_waited_for(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    invocation_id = await add_waiting(wiring, query, keyring)
    (row,) = query("SELECT event_id FROM invocations")

    event = (await client.get(f"/admin/events/{row['event_id']}")).json()

    assert document(event, invocation_id)["waitingFor"] == "callback"

import json
from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from api.auth import Caller, requires
from latchflow.errors import SealError, UnavailableError
from tests.support.api import JSON, TokenClient, Wiring, pointers


async def test_an_unknown_address_and_a_wrong_method_are_problems(client: httpx2.AsyncClient) -> None:
    nowhere = await client.get("/admin/nowhere")
    wrong = await client.put("/admin/triggers")

    assert (nowhere.status_code, nowhere.json()["code"]) == (404, "not_found")
    assert (wrong.status_code, wrong.json()["code"]) == (405, "method_not_allowed")
    assert nowhere.headers["Content-Type"] == wrong.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize(
    "content", [b"{", b"", b"\xff", b'{"name": NaN}', b"[" * 20000, b'{"n": ' + b"9" * 5000 + b"}"]
)
async def test_a_body_that_is_no_json_is_400(client: httpx2.AsyncClient, content: bytes) -> None:
    answer = await client.post("/admin/pipelines", content=content, headers={"Content-Type": JSON})

    assert answer.status_code == (400 if content else 422)
    assert answer.json()["code"] == ("malformed" if content else "invalid_input")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "application/xml", ""])
async def test_a_body_of_another_content_type_is_415(client: httpx2.AsyncClient, content_type: str) -> None:
    answer = await client.post("/admin/pipelines", content=b'{"name": "x"}', headers={"Content-Type": content_type})

    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"name": "a\x00b"}, "/name"),
        ({"name": "a\ud800b"}, "/name"),
        ({"name": "a", "steps": [{"input": {"b": ["\x00"]}}]}, "/steps/0/input/b/0"),
        ({"name": "a", "x\x00": 1}, ""),
    ],
)
async def test_text_that_cannot_be_stored_is_422(client: httpx2.AsyncClient, value: object, pointer: str) -> None:
    answer = await client.post("/admin/pipelines", content=json.dumps(value), headers={"Content-Type": JSON})

    assert answer.status_code == 422
    assert pointers(answer) == [pointer]


async def test_a_number_beyond_floats_is_422(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/admin/pipelines", content=b'{"name": 1e999}', headers={"Content-Type": JSON})

    assert (answer.status_code, pointers(answer)) == (422, ["/name"])


async def test_unknown_properties_and_wrong_types_are_422_with_pointers(client: httpx2.AsyncClient) -> None:
    body = {"name": "x", "onError": 1, "isEnabled": "yes", "steps": [{"name": "1st", "forEach": 1}]}

    answer = await client.post("/admin/pipelines", json=body)

    assert answer.status_code == 422
    assert set(pointers(answer)) == {"/onError", "/isEnabled", "/steps/0/name", "/steps/0/forEach"}


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/admin/events?limit=0", "limit"),
        ("/admin/events?limit=201", "limit"),
        ("/admin/events?status=DANCING", "status"),
        ("/admin/events?colour=red", "colour"),
        ("/admin/audit?actor=%00", "actor"),
        ("/admin/audit?from=yesterday", "from"),
        ("/admin/audit?to=2020-01-01T00:00:00", "to"),
        ("/admin/audit?to=9999-12-31T23:59:59-14:00", "to"),
        ("/admin/triggers/no-uuid", "triggerId"),
        ("/admin/triggers?cascade=true", "cascade"),
    ],
)
async def test_a_wrong_parameter_is_422_with_its_name(client: httpx2.AsyncClient, path: str, name: str) -> None:
    answer = await client.get(path)

    assert answer.status_code == 422
    assert pointers(answer) == [f"/{name}"]
    assert repr(name) in answer.json()["errors"][0]["detail"]


async def test_a_body_over_the_limit_is_413_before_it_is_read(client: httpx2.AsyncClient) -> None:
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b" " * 10000

    declared = await client.post("/admin/pipelines", content=b" " * 70000, headers={"Content-Type": JSON})
    streamed = await client.post("/admin/pipelines", content=endless(), headers={"Content-Type": JSON})

    assert (declared.status_code, declared.json()["code"]) == (413, "too_large")
    assert (streamed.status_code, streamed.json()["code"]) == (413, "too_large")
    assert read == 7


async def test_a_body_over_the_limit_is_413_on_public_routes_too(client_with: TokenClient) -> None:
    answer = await client_with(None).post("/hooks/x", content=b" " * 70000)

    assert answer.status_code == 413


async def test_an_error_nobody_foresaw_shows_nothing_but_an_id(app: FastAPI, client: httpx2.AsyncClient) -> None:
    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("the secret is hunter2")

    answer = await client.get("/broken")

    assert answer.status_code == 500
    assert answer.json()["code"] == "internal"
    assert answer.json()["instance"].startswith("urn:uuid:")
    assert "hunter2" not in answer.text


async def test_a_part_that_is_away_is_503_and_says_when_to_retry(app: FastAPI, client: httpx2.AsyncClient) -> None:
    @app.get("/away")
    async def away() -> None:
        raise UnavailableError("Away.", retry_after_seconds=7)

    answer = await client.get("/away")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == "7"


async def test_a_value_that_cannot_be_opened_is_a_named_500(app: FastAPI, client: httpx2.AsyncClient) -> None:
    @app.get("/sealed")
    async def sealed() -> None:
        raise SealError("The key 'old' is not in ENCRYPTION_KEY.", key_id="old")

    answer = await client.get("/sealed")

    assert (answer.status_code, answer.json()["code"]) == (500, "seal")


async def test_what_was_sent_is_never_in_an_error(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    config = {"url": "hunter2", "apiKey": "hunter2", "count": "hunter2", "login": "hunter2"}
    trigger = await wiring.trigger()

    answers = [
        await client.post("/admin/actions", json={"name": "x", "capability": trigger["capability"], "config": config}),
        await client.post("/admin/actions", json={"name": "x", "capabilityId": "hunter2", "config": "hunter2"}),
        await client.post("/admin/tokens", json={"name": "x", "scopes": "hunter2", "expiresAt": "hunter2"}),
    ]

    for answer in answers:
        assert answer.status_code == 422
        assert "hunter2" not in answer.text


def test_requires_marks_a_parameter() -> None:
    assert requires("events:read").dependency.wanted == "events:read"
    assert Caller.__dataclass_params__.frozen  # type: ignore[attr-defined]

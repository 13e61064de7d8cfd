import asyncio
import gzip
import threading
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from latchflow.sdk import HttpRequest, ServiceError
from latchflow.services.egress import EgressGuard
from latchflow.services.http import GuardedHttp
from tests.unit.services.servers import HttpServer, Received, http_server, reply, tls_pair, unused_port


@pytest.fixture
async def http() -> AsyncIterator[GuardedHttp]:
    service = GuardedHttp(EgressGuard("127.0.0.1,localhost"))
    yield service
    await service.aclose()


async def failure(http: GuardedHttp, **request: Any) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await http.request(HttpRequest(**request))
    return caught.value


async def test_a_request_arrives_as_it_was_given(http: GuardedHttp) -> None:
    async with http_server(reply(201, b'{"ok":true}', content_type="application/json", X_Answer="a")) as server:
        response = await http.request(
            HttpRequest(
                method="post",
                url=f"{server.url}/path?a=1",
                query={"b": "2 3"},
                headers={"X-One": "1"},
                secret_headers={"Authorization": "Bearer t"},
                json={"ü": [1]},
            )
        )

    received = server.received[0]
    assert (response.status, response.content, response.headers["x-answer"]) == (201, b'{"ok":true}', "a")
    assert received.line.startswith("POST /path?a=1&b=2")
    assert received.body == '{"ü":[1]}'.encode()
    assert received.headers["content-type"] == "application/json"
    assert (received.headers["x-one"], received.headers["authorization"]) == ("1", "bearer t")


async def test_any_status_is_an_answer(http: GuardedHttp) -> None:
    async with http_server(reply(503, b"busy")) as server:
        response = await http.request(HttpRequest(method="GET", url=server.url))

    assert (response.status, response.content) == (503, b"busy")


async def test_a_guarded_address_is_denied_and_never_reached() -> None:
    http = GuardedHttp(EgressGuard(""))
    async with http_server(reply()) as server:
        error = await failure(http, method="GET", url=server.url)

    assert error.kind == "denied"
    assert server.received == []


async def test_a_redirect_to_a_guarded_address_is_denied(http: GuardedHttp) -> None:
    async with http_server(reply(302, location="http://169.254.169.254/latest")) as server:
        error = await failure(http, method="GET", url=server.url)

    assert error.kind == "denied"
    assert "169.254.169.254" in str(error)


async def test_a_redirect_to_a_host_outside_allowed_hosts_is_denied(http: GuardedHttp) -> None:
    async with (
        http_server(reply(200)) as other,
        http_server(reply(302, location=f"http://localhost:{other.port}/")) as server,
    ):
        error = await failure(http, method="GET", url=server.url, allowed_hosts=["127.0.0.1"])

    assert error.kind == "denied"
    assert other.received == []


@pytest.mark.parametrize(
    ("pattern", "is_allowed"), [("127.0.0.1", True), ("*.0.0.1", True), ("*.127.0.0.1", False), ("example.com", False)]
)
async def test_allowed_hosts_narrow_the_request(http: GuardedHttp, pattern: str, is_allowed: bool) -> None:
    async with http_server(reply()) as server:
        request = HttpRequest(method="GET", url=server.url, allowed_hosts=[pattern])
        outcome = await asyncio.gather(http.request(request), return_exceptions=True)

    assert isinstance(outcome[0], ServiceError) is not is_allowed


async def test_redirects_of_get_are_followed_and_credentials_stay_with_their_origin(http: GuardedHttp) -> None:
    def first_here_then_there(received: Received) -> bytes:
        if received.line.startswith("GET /start"):
            return reply(302, location="/same")
        return reply(307, location=f"http://localhost:{other.port}/end")

    async with http_server(reply(200, b"end")) as other, http_server(first_here_then_there) as server:
        response = await http.request(
            HttpRequest(
                method="GET",
                url=f"{server.url}/start",
                headers={"Cookie": "c", "X-Plain": "p"},
                secret_headers={"X-Api-Key": "k"},
            )
        )

    assert response.content == b"end"
    assert [("x-api-key" in request.headers) for request in server.received] == [True, True]
    assert {"x-plain"} == other.received[0].headers.keys() & {"x-plain", "cookie", "x-api-key"}


async def test_a_redirect_of_post_is_the_answer(http: GuardedHttp) -> None:
    async with http_server(reply(307, location="/elsewhere")) as server:
        response = await http.request(HttpRequest(method="POST", url=server.url, content=b"x"))

    assert response.status == 307
    assert len(server.received) == 1


async def test_endless_redirects_end(http: GuardedHttp) -> None:
    async with http_server(reply(302, location="/again")) as server:
        error = await failure(http, method="GET", url=server.url)

    assert error.kind == "fatal"
    assert len(server.received) == 6


@pytest.mark.parametrize(
    ("method", "is_repeatable", "kind"),
    [("GET", False, "retryable"), ("POST", False, "outcome_unknown"), ("POST", True, "retryable")],
)
async def test_a_connection_cut_after_the_request(
    http: GuardedHttp, method: str, is_repeatable: bool, kind: str
) -> None:
    async with http_server(None) as server:
        error = await failure(http, method=method, url=server.url, is_repeatable=is_repeatable)

    assert error.kind == kind
    assert len(server.received) == 1


async def test_a_refused_connection_may_be_tried_again(http: GuardedHttp) -> None:
    error = await failure(http, method="POST", url=f"http://127.0.0.1:{unused_port()}/")

    assert error.kind == "retryable"


async def test_an_answer_cut_short_leaves_the_outcome_of_a_post_unknown(http: GuardedHttp) -> None:
    async with http_server(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc") as server:
        error = await failure(http, method="POST", url=server.url)

    assert error.kind == "outcome_unknown"


@pytest.mark.parametrize(("method", "kind"), [("GET", "retryable"), ("POST", "outcome_unknown")])
async def test_no_answer_in_time(http: GuardedHttp, method: str, kind: str) -> None:
    async def never(_: Received) -> bytes:
        await asyncio.sleep(5)
        return b""

    async with http_server(never) as server:
        error = await failure(http, method=method, url=server.url, timeout=timedelta(seconds=0.2))

    assert error.kind == kind


@pytest.mark.parametrize("is_compressed", [False, True])
async def test_an_oversized_answer_is_refused_whatever_it_looks_like_on_the_wire(
    http: GuardedHttp, is_compressed: bool
) -> None:
    body = b"x" * 100_000
    answer = reply(200, gzip.compress(body), content_encoding="gzip") if is_compressed else reply(200, body)
    async with http_server(answer) as server:
        error = await failure(http, method="GET", url=server.url, max_response_bytes=50_000)

    assert error.kind == "fatal"
    assert "50000" in str(error)


@pytest.mark.parametrize(
    "fault",
    [
        {"headers": {"X-A": "a\r\nX-B: b"}},
        {"headers": {"X-A\n": "a"}},
        {"headers": {"X-A": "a\0"}},
        {"headers": {"X-A": "ü"}},
        {"headers": {"Host": "other.example"}},
        {"secret_headers": {"Content-Length": "1"}},
        {"url": "ftp://127.0.0.1/"},
        {"url": "/only/a/path"},
        {"url": "http://user:pw@127.0.0.1/"},
        {"url": "http://[::1/"},
        {"method": "CONNECT"},
        {"method": "GET /\r\n"},
        {"json": 1, "content": b"1"},
        {"json": float("nan")},
    ],
)
async def test_a_malformed_request_is_refused_before_anything_is_sent(http: GuardedHttp, fault: dict[str, Any]) -> None:
    async with http_server(reply()) as server:
        error = await failure(http, **({"method": "POST", "url": server.url} | fault))

    assert error.kind == "validation"
    assert server.received == []


async def test_no_cookie_of_one_exchange_reaches_the_next(http: GuardedHttp) -> None:
    async with http_server(reply(200, set_cookie="session=1; Path=/")) as server:
        await http.request(HttpRequest(method="GET", url=server.url))
        await http.request(HttpRequest(method="GET", url=server.url))

    assert "cookie" not in server.received[1].headers


async def test_proxies_of_the_environment_are_ignored(http: GuardedHttp, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{unused_port()}")
    async with http_server(reply()) as server:
        response = await http.request(HttpRequest(method="GET", url=server.url))

    assert response.status == 200


async def test_tls_verifies_the_name_and_not_the_address(tmp_path: Path) -> None:
    server_side, client_side = tls_pair(tmp_path, "localhost")
    http = GuardedHttp(EgressGuard("localhost,127.0.0.1"), ssl_context=client_side)
    async with http_server(reply(200, b"safe"), tls=server_side) as server:
        response = await http.request(HttpRequest(method="POST", url=f"https://localhost:{server.port}/"))
        error = await failure(http, method="POST", url=f"https://127.0.0.1:{server.port}/")
        await http.aclose()

    assert response.content == b"safe"
    assert error.kind == "retryable"
    assert "not sent" in str(error)


async def test_one_service_serves_the_loops_of_several_threads(http: GuardedHttp) -> None:
    statuses: list[int] = []

    async def once(server: HttpServer) -> None:
        response = await http.request(HttpRequest(method="GET", url=server.url))
        statuses.append(response.status)
        await http.aclose()

    async with http_server(reply()) as server:
        threads = [threading.Thread(target=lambda: asyncio.run(once(server))) for _ in range(3)]
        for thread in threads:
            thread.start()
        await http.request(HttpRequest(method="GET", url=server.url))
        for thread in threads:
            await asyncio.to_thread(thread.join)

    assert statuses == [200, 200, 200]

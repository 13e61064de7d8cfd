"""The egress guard where it counts: a server on loopback that nobody opened hears nothing, however it is named."""

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from latchflow.sdk import HttpRequest, HttpResponse, ServiceError
from latchflow.services.egress import EgressGuard
from latchflow.services.http import GuardedHttp
from latchflow.services.live_egress import LiveEgressGuard
from tests.unit.services.servers import HttpServer, http_server, reply

LOOPBACK = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "0x7f000001",
    "0x7f.0.0.1",
    "0177.0.0.1",
    "017700000001",
    "0.0.0.0",
    "0",
    "localhost",
    "LocalHost.",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
]


@pytest.fixture
async def http() -> AsyncIterator[GuardedHttp]:
    service = GuardedHttp(EgressGuard(""))
    yield service
    await service.aclose()


async def outcome(http: GuardedHttp, url: str) -> HttpResponse | ServiceError:
    try:
        return await http.request(HttpRequest(method="GET", url=url))
    except ServiceError as error:
        return error


def kind(result: HttpResponse | ServiceError) -> str:
    return result.kind if isinstance(result, ServiceError) else "answered"


@pytest.mark.parametrize("host", LOOPBACK)
async def test_loopback_is_refused_in_every_spelling(http: GuardedHttp, host: str) -> None:
    async with http_server(reply()) as server:
        result = await outcome(http, f"http://{host}:{server.port}/")

    assert kind(result) in {"denied", "validation"}
    assert server.received == []


@pytest.mark.parametrize("host", LOOPBACK)
async def test_a_redirect_to_it_is_refused_too(host: str) -> None:
    async with http_server(reply()) as inside:
        location = f"http://{host}:{inside.port}/".encode().decode("latin-1")
        async with http_server(reply(302, location=location).decode("latin-1").encode("latin-1")) as outside:
            http = GuardedHttp(EgressGuard(f"127.0.0.1:{outside.port}"))
            result = await outcome(http, outside.url)
            await http.aclose()

    assert kind(result) != "answered"
    assert inside.received == []


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "[fd00:ec2::254]", "100.100.100.200", "168.63.129.16", "10.0.0.1", "[fe80::1]"]
)
async def test_metadata_private_and_link_local_addresses_are_refused(http: GuardedHttp, host: str) -> None:
    assert kind(await outcome(http, f"http://{host}/latest/meta-data")) == "denied"


class Names:
    """Answers for one name, one after the other. A real name server that changes its mind would need one of our own
    and a resolver that asks it; what is under test is what is done with the answers."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *answers: str) -> None:
        self.asked = 0
        self._answers = answers
        loop = asyncio.get_running_loop()
        real = loop.getaddrinfo

        async def getaddrinfo(host: Any, port: Any, **options: Any) -> Any:
            if host != "changing.example":
                return await real(host, port, **options)
            self.asked += 1
            answer = self._answers[min(self.asked, len(self._answers)) - 1]
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in answer.split()]

        monkeypatch.setattr(loop, "getaddrinfo", getaddrinfo)


async def serve_on(host: str, port: int, received: list[bytes]) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        received.append(await reader.readline())
        writer.write(reply())
        writer.close()

    return await asyncio.start_server(serve, host, port)


async def test_a_name_that_leads_elsewhere_after_the_check_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch, "127.0.0.1", "127.0.0.2")
    wrong: list[bytes] = []
    async with http_server(reply()) as server, await serve_on("127.0.0.2", server.port, wrong):
        http = GuardedHttp(EgressGuard(f"127.0.0.1:{server.port}"))
        result = await outcome(http, f"http://changing.example:{server.port}/")
        await http.aclose()

    assert kind(result) == "answered"
    assert names.asked == 1
    assert len(server.received) == 1
    assert wrong == []


async def test_a_name_is_checked_again_when_it_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, "127.0.0.1", "127.0.0.2")
    wrong: list[bytes] = []
    async with http_server(reply(302, location="/again")) as server, await serve_on("127.0.0.2", server.port, wrong):
        http = GuardedHttp(EgressGuard(f"127.0.0.1:{server.port}"))
        result = await outcome(http, f"http://changing.example:{server.port}/")
        await http.aclose()

    assert kind(result) == "denied"
    assert wrong == []


async def test_a_name_with_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Names(monkeypatch, "8.8.8.8 127.0.0.1")

    with pytest.raises(ServiceError) as caught:
        await EgressGuard("").resolve("changing.example", 80)

    assert caught.value.kind == "denied"


def live(allow: list[str]) -> LiveEgressGuard:
    async def read() -> str:
        return allow[0]

    return LiveEgressGuard(read)


async def answered_by(http: GuardedHttp, server: HttpServer) -> str:
    return kind(await outcome(http, server.url))


async def test_a_closed_opening_holds_for_connections_that_are_still_open() -> None:
    allow = ["127.0.0.1"]
    http = GuardedHttp(live(allow))
    async with http_server(reply(connection="keep-alive")) as server:
        kinds = [await answered_by(http, server)]
        allow[0] = "10.0.0.1"
        kinds.append(await answered_by(http, server))
        allow[0] = "127.0.0.1"
        kinds.append(await answered_by(http, server))
        await http.aclose()

    assert kinds == ["answered", "denied", "answered"]


async def test_a_request_in_progress_ends_in_peace_when_the_list_changes() -> None:
    allow, reached, go_on = ["127.0.0.1"], asyncio.Event(), asyncio.Event()
    http = GuardedHttp(live(allow))

    async def slow(_: object) -> bytes:
        reached.set()
        await go_on.wait()
        return reply()

    async with http_server(slow) as server, http_server(reply()) as other:
        request = asyncio.create_task(answered_by(http, server))
        await reached.wait()
        allow[0] = "127.0.0.1,10.0.0.1"
        second = await answered_by(http, other)
        go_on.set()
        first = await request
        await http.aclose()

    assert (first, second) == ("answered", "answered")


async def test_a_list_that_cannot_be_used_lets_nothing_through() -> None:
    http = GuardedHttp(live(["10.0.0.1/8"]))
    async with http_server(reply()) as server:
        result = await outcome(http, server.url)

    assert kind(result) == "fatal"
    assert "HTTP_EGRESS_ALLOW" in str(result)
    assert server.received == []

"""Processes that are frozen on the way: what they wake up with is not sent once its time is up."""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from latchflow.sdk import EmailAddress, EmailAttachment, EmailMessage, HttpRequest, ServiceError
from latchflow.services.egress import EgressGuard
from latchflow.services.email import SmtpEmail
from latchflow.services.http import GuardedHttp, _TimedBody
from tests.unit.services.servers import http_server, reply

GUARD = EgressGuard("127.0.0.1")
MAIL = EmailMessage(to=[EmailAddress(address="ada@example.com")], subject="s", text_body="b")
SECONDS = 0.4


@dataclass
class FreezingServer:
    """A mail server that freezes the process, which is its client's too, before it answers a command."""

    command: bytes
    received: bytearray = field(default_factory=bytearray)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        is_message = False
        while line := await reader.readline():
            if is_message:
                self.received += line
                if line != b".\r\n":
                    continue
                is_message = False
            if line.startswith(self.command):
                time.sleep(2 * SECONDS)
            is_message = line.startswith(b"DATA")
            writer.write(b"354 go on\r\n" if is_message else b"250 fine\r\n")
            await writer.drain()
        writer.close()


@pytest.mark.parametrize("command", [b"RCPT", b"DATA"])
async def test_a_mail_does_not_leave_a_process_that_wakes_up_after_its_deadline(command: bytes) -> None:
    frozen = FreezingServer(command)
    server = await asyncio.start_server(frozen.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        smtp = SmtpEmail(f"smtp://127.0.0.1:{port}", "bot@example.org", GUARD, timeout_seconds=5)
        with pytest.raises(ServiceError) as caught:
            await smtp.send(MAIL, idempotency_key="k", deadline=datetime.now(UTC) + timedelta(seconds=SECONDS))
        await asyncio.sleep(0.1)  # whatever was sent would be read by then

    assert frozen.received == b""
    assert caught.value.kind in ("retryable", "outcome_unknown")


async def test_a_mail_that_was_accepted_is_never_said_to_be_unsent_however_late_the_answer_comes() -> None:
    frozen = FreezingServer(b".")
    server = await asyncio.start_server(frozen.serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        smtp = SmtpEmail(f"smtp://127.0.0.1:{port}", "bot@example.org", GUARD, timeout_seconds=5)
        try:
            await smtp.send(MAIL, idempotency_key="k", deadline=datetime.now(UTC) + timedelta(seconds=SECONDS))
        except ServiceError as error:
            # The limit struck before the answer was read. `retryable` would have the next attempt send it again.
            assert error.kind == "outcome_unknown"  # noqa: PT017 - a success is as good

    assert frozen.received.endswith(b"\r\n.\r\n")


async def test_the_time_limit_of_a_mail_does_not_take_the_success_back_while_it_says_farewell() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A mail server that never answers QUIT."""
        writer.write(b"220 ready\r\n")
        is_message = False
        while line := await reader.readline():
            if (is_message and line != b".\r\n") or line.startswith(b"QUIT"):
                continue
            is_message = line.startswith(b"DATA")
            writer.write(b"354 go on\r\n" if is_message else b"250 fine\r\n")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        smtp = SmtpEmail(f"smtp://127.0.0.1:{port}", "bot@example.org", GUARD, timeout_seconds=5)
        sent = await smtp.send(MAIL, idempotency_key="k", deadline=datetime.now(UTC) + timedelta(seconds=SECONDS))

    assert sent.accepted_recipients == ("ada@example.com",)


class FreezingHeaders(dict[str, str]):
    """Headers that take long to read."""

    def items(self) -> Iterator[tuple[str, str]]:  # type: ignore[override]
        time.sleep(2 * SECONDS)
        yield from super().items()


async def test_a_request_does_not_leave_a_process_that_wakes_up_after_its_timeout() -> None:
    http = GuardedHttp(GUARD)
    async with http_server(reply(200, b"")) as server:
        request = HttpRequest(
            method="POST", url=server.url, headers=FreezingHeaders(a="b"), timeout=timedelta(seconds=SECONDS)
        )
        with pytest.raises(ServiceError, match="time for it was up") as caught:
            await http.request(request)
    await http.aclose()

    assert server.received == []
    assert caught.value.is_retryable


async def test_the_rest_of_a_large_body_stays_where_it_is_when_the_process_wakes_up_after_the_timeout() -> None:
    body = aiter(_TimedBody(bytes(1_000_000), datetime.now(UTC) + timedelta(seconds=SECONDS)))

    first = await anext(body)
    time.sleep(2 * SECONDS)
    with pytest.raises(TimeoutError):
        await anext(body)

    assert 0 < len(first) < 100_000


async def test_a_mail_that_is_cut_off_by_its_time_limit_is_not_written_to_its_end_afterwards() -> None:
    received = bytearray()
    goes_on = asyncio.Event()
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Takes no message before the client has given up."""
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            is_message = line.startswith(b"DATA")
            writer.write(b"354 go on\r\n" if is_message else b"250 fine\r\n")
            if is_message:
                break
        await goes_on.wait()
        try:
            while chunk := await reader.read(1 << 20):
                received.extend(chunk)
        except ConnectionError:
            pass
        writer.close()
        is_over.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        smtp = SmtpEmail(f"smtp://127.0.0.1:{port}", "bot@example.org", GUARD, timeout_seconds=5)
        mail = replace(MAIL, attachments=[EmailAttachment(name="a", content=bytes(5_000_000))])
        with pytest.raises(ServiceError) as caught:
            await smtp.send(mail, idempotency_key="k", deadline=datetime.now(UTC) + timedelta(seconds=4))
        goes_on.set()
        await asyncio.wait_for(is_over.wait(), 5)

    assert caught.value.kind == "outcome_unknown"
    assert not received.endswith(b"\r\n.\r\n")

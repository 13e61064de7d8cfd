"""A real SMTP server on the running loop."""

import asyncio
import contextlib
import email
import email.policy
import ssl
from collections.abc import AsyncIterator
from email.message import EmailMessage as MimeMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult


class Mailbox:
    """A handler that keeps what arrives; recipients at ``refused.example`` are refused with the code they name."""

    def __init__(self) -> None:
        self.envelopes: list[Any] = []
        self.credentials: list[tuple[str, str]] = []

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802
        local, _, domain = address.partition("@")
        if domain == "refused.example":
            return f"{local} refused"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        self.envelopes.append(envelope)
        return "250 taken"

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, auth_data: Any) -> AuthResult:
        self.credentials.append((auth_data.login.decode(), auth_data.password.decode()))
        return AuthResult(success=auth_data.password == b"p@ss/word", handled=False)

    def last_message(self) -> MimeMessage:
        parsed = email.message_from_bytes(self.envelopes[-1].content, policy=email.policy.default)
        assert isinstance(parsed, MimeMessage)
        return parsed


@contextlib.asynccontextmanager
async def mail_server(mailbox: Mailbox, tls: ssl.SSLContext | None = None, **options: Any) -> AsyncIterator[int]:
    loop = asyncio.get_running_loop()
    connections: list[SMTP] = []

    def protocol() -> SMTP:
        options.setdefault("loop", loop)
        connections.append(SMTP(mailbox, hostname="localhost", authenticator=mailbox.authenticate, **options))
        return connections[-1]

    server = await loop.create_server(protocol, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1]
    for connection in connections:
        if connection.transport is not None:
            connection.transport.close()
    for _ in range(5):  # turns of the loop in which the connections end
        await asyncio.sleep(0)

"""A real SMTP server that keeps what arrives."""

import asyncio
import email
import email.policy
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP

_LINK = re.compile(r"https?://\S+/invitations/(lfk_[\w-]+)")


class Mailbox:
    """Its handler.

    Attributes:
        answer: To the end of a message; None cuts the connection instead.
        refusal: To a recipient; None takes it.
    """

    def __init__(self) -> None:
        self.port = 0
        self.messages: list[EmailMessage] = []
        self.answer: str | None = "250 taken"
        self.refusal: str | None = None

    async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:  # noqa: N802
        if self.refusal is not None:
            return self.refusal
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        if self.answer is None:
            server.transport.abort()
            return ""
        return self.answer

    def token(self, position: int = -1) -> str:
        """The token in the link of a mail."""
        found = _LINK.search(self.messages[position].get_content())
        assert found is not None
        return found[1]

    def recipients(self) -> list[str]:
        """Whom the mails went to."""
        return [str(message["To"]) for message in self.messages]


@asynccontextmanager
async def running_mailbox() -> AsyncIterator[Mailbox]:
    """Serve on a free port of the loopback address."""
    mailbox = Mailbox()
    loop = asyncio.get_running_loop()
    connections: list[SMTP] = []

    def protocol() -> SMTP:
        connections.append(SMTP(mailbox, hostname="localhost", loop=loop))
        return connections[-1]

    server = await loop.create_server(protocol, "127.0.0.1", 0)
    mailbox.port = server.sockets[0].getsockname()[1]
    async with server:
        yield mailbox
    for connection in connections:
        if connection.transport is not None:
            connection.transport.close()
    for _ in range(5):  # turns of the loop in which the connections end
        await asyncio.sleep(0)

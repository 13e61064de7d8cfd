"""The mail sink: an SMTP server that delivers nothing and shows everything."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from aiosmtpd.smtp import SMTP

from latchflow.dev.mailbox import Mail, Mailbox
from latchflow.dev.ports import LOOPBACK
from latchflow.dev.sink_http import sink_app

_MAX_MAIL_BYTES = 64 * 1024 * 1024


class Sink:
    """Where the sink listens.

    Attributes:
        smtp_address: ``host:port`` for mails.
        http_url: Where they can be read.
    """

    def __init__(self, smtp_address: str, http_url: str) -> None:
        self.smtp_address = smtp_address
        self.http_url = http_url


@asynccontextmanager
async def run_sink(folder: Path, on_mail: Callable[[Mail], None]) -> AsyncIterator[Sink]:
    """Run the sink on two free ports of the loopback address, in this event loop.

    Args:
        folder: Where the mails are kept; those of an earlier run are shown too.
        on_mail: Told of each mail.
    """
    mailbox = Mailbox(folder)
    handler = _Handler(mailbox, on_mail)
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(handler, loop=loop, hostname="localhost", data_size_limit=_MAX_MAIL_BYTES, enable_SMTPUTF8=True)

    smtp = await loop.create_server(session, LOOPBACK, 0)
    listener = socket.create_server((LOOPBACK, 0))
    config = uvicorn.Config(sink_app(mailbox), lifespan="off", ws="none", log_config=None, access_log=False)
    server = _QuietServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        yield Sink(
            smtp_address=f"{LOOPBACK}:{smtp.sockets[0].getsockname()[1]}",
            http_url=f"http://{LOOPBACK}:{listener.getsockname()[1]}",
        )
    finally:
        smtp.close()
        server.should_exit = server.force_exit = True
        await serving
        listener.close()


class _Handler:
    """What aiosmtpd calls."""

    def __init__(self, mailbox: Mailbox, on_mail: Callable[[Mail], None]) -> None:
        self._mailbox = mailbox
        self._on_mail = on_mail

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        content = envelope.original_content or b""
        mail = self._mailbox.add(content, mail_from=envelope.mail_from or "", rcpt_to=list(envelope.rcpt_tos))
        self._on_mail(mail)
        return "250 2.0.0 caught"


class _QuietServer(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to the stack."""
        yield

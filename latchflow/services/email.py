"""Mail by SMTP, through the egress guard."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parseaddr
from urllib.parse import unquote, urlsplit

import aiosmtplib

from latchflow.errors import ConfigurationError
from latchflow.masking import mask
from latchflow.sdk import EmailAddress, EmailMessage, Network, SendResult, ServiceError
from latchflow.services.email_message import build, check, check_address, message_id, recipients
from latchflow.services.handover import require_time

_QUIT_SECONDS = 1.0
_DEFAULT_PORTS = {"smtp": 25, "smtps": 465, "smtp+starttls": 587}


class SmtpEmail:
    """Sends mails to one SMTP server.

    Args:
        smtp_url: ``smtp://[user:password@]host[:port]``, ``smtps://…`` or ``smtp+starttls://…``; user and password
            percent-encoded. Empty: every mail is refused until there is a server.
        default_sender: ``a@b.c`` or ``Name <a@b.c>``, for messages without a sender; empty for none.
        guard: Decides which addresses the server may have.
        ssl_context: None verifies the server's certificate against the trust store of the system.
        timeout_seconds: Of the connection and of each command; the answer to the farewell gets one second.

    Raises:
        ConfigurationError: The URL or the sender is malformed; the message names the setting, never the URL.
    """

    def __init__(
        self,
        smtp_url: str,
        default_sender: str,
        guard: Network,
        *,
        ssl_context: ssl.SSLContext | None = None,
        timeout_seconds: float = 30,
    ) -> None:
        self._server = parse_smtp_url(smtp_url) if smtp_url else None
        self._default_sender = parse_sender(default_sender) if default_sender else None
        self._guard = guard
        self._ssl_context = ssl_context
        self._timeout_seconds = timeout_seconds

    async def send(
        self, message: EmailMessage, *, idempotency_key: str, deadline: datetime | None = None
    ) -> SendResult:
        """Send one mail. The same `idempotency_key` always makes the same ``Message-ID``.

        Args:
            message: The mail.
            idempotency_key: Equal for all attempts at it.
            deadline: When to give up, however far it has come; what was not handed over by then is ``retryable``.

        Returns:
            The recipients the server took, and those it refused while it took others.

        Raises:
            ServiceError: As `latchflow.sdk.EmailService.send` says. A connection that breaks once the message is on
                its way is ``outcome_unknown``.
        """
        server = self._required_server()
        sender = message.sender or self._default_sender
        if sender is None:
            raise ServiceError("validation", "The mail has no sender. Give it one, or an operator sets SMTP_FROM.")
        check(message)
        built = build(message, sender, message_id(message, idempotency_key))
        delivery = _Delivery(sender.address, recipients(message), built.as_bytes(), deadline)
        seconds = None if deadline is None else max((deadline - datetime.now(UTC)).total_seconds(), 0.0)
        with self._explained(delivery):
            async with asyncio.timeout(seconds):
                await self._deliver(server, delivery)
        refused = delivery.refused
        return SendResult(
            provider_message_id=str(built["Message-ID"]),
            accepted_recipients=tuple(address for address in delivery.recipients if address not in refused),
            rejected_recipients=tuple(refused),
        )

    async def check(self) -> None:
        """Connect, log in and leave again; nothing is sent.

        Raises:
            ServiceError: Why that does not work.
        """
        with self._explained(None):
            async with self._connected(self._required_server()) as client:
                await client.noop()
                await _quit(client)

    @contextlib.contextmanager
    def _explained(self, delivery: "_Delivery | None") -> Iterator[None]:
        """Turn the library's errors into what they mean, without the password, which a server may quote.

        Once the message is accepted they mean nothing any more, a time limit that ends the farewell neither.
        """
        try:
            yield
        except (aiosmtplib.SMTPException, OSError) as error:
            if delivery is not None and delivery.is_accepted:
                return
            found = _meaning(error, is_handed_over=delivery is not None and delivery.is_handed_over)
            password = self._server.password if self._server is not None else None
            raise ServiceError(found.kind, mask(str(found), [password] if password else [])) from error

    def _required_server(self) -> "SmtpServer":
        if self._server is None:
            raise ServiceError("fatal", "There is no mail server. An operator sets SMTP_URL.")
        return self._server

    async def _deliver(self, server: "SmtpServer", delivery: "_Delivery") -> None:
        async with self._connected(server) as client:
            await delivery.run(client)
            await _quit(client)

    @contextlib.asynccontextmanager
    async def _connected(self, server: "SmtpServer") -> AsyncIterator[aiosmtplib.SMTP]:
        client = aiosmtplib.SMTP(
            hostname=server.host,  # the name the certificate must be for; the connection is already made
            sock=await self._connect(server),
            username=server.username,
            password=server.password,
            use_tls=server.scheme == "smtps",
            start_tls=server.scheme == "smtp+starttls",
            tls_context=(self._ssl_context or ssl.create_default_context()) if server.scheme != "smtp" else None,
            local_hostname=socket.gethostname(),
            timeout=self._timeout_seconds,
        )
        try:
            await client.connect()
            yield client
        finally:
            # Not a mere close, which would go on writing what is left of a message.
            if isinstance(client.transport, asyncio.WriteTransport):
                client.transport.abort()
            client.close()

    async def _connect(self, server: "SmtpServer") -> socket.socket:
        failure: OSError = OSError("it has no address")
        for address in await self._guard.resolve(server.host, server.port):
            connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
            connection.setblocking(False)
            try:
                async with asyncio.timeout(self._timeout_seconds):
                    await asyncio.get_running_loop().sock_connect(connection, (address, server.port))
            except OSError as error:  # a TimeoutError is one
                connection.close()
                failure = error
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        raise failure


@dataclass
class _Delivery:
    """One message for one connection; remembers how far the message was on its way when something broke."""

    sender: str
    recipients: Sequence[str]
    content: bytes
    deadline: datetime | None = None
    refused: Sequence[str] = ()
    is_handed_over: bool = False
    is_accepted: bool = False

    async def run(self, client: aiosmtplib.SMTP) -> None:
        """Hand the message over."""
        await client.mail(self.sender)
        refusals: list[aiosmtplib.SMTPRecipientRefused] = []
        for address in self.recipients:
            try:
                await client.rcpt(address)
            except aiosmtplib.SMTPRecipientRefused as error:
                refusals.append(error)
        if len(refusals) == len(self.recipients):
            # One that is refused for now makes all of them worth another try.
            raise min(refusals, key=lambda refusal: refusal.code)
        self.refused = [refusal.recipient for refusal in refusals]
        with self._clock_watched(client):
            self.is_handed_over = True
            await client.data(self.content)
            self.is_accepted = True

    @contextlib.contextmanager
    def _clock_watched(self, client: aiosmtplib.SMTP) -> Iterator[None]:
        """Let no message out after the deadline, however long the process was frozen since the server last spoke.

        A timeout that is due does not see to that: the library's wait for the answer to DATA may swallow it when the
        answer is there too, and it writes the message next. What is written after the message is none of its business.
        """
        protocol, deadline = client.protocol, self.deadline
        if protocol is None or deadline is None:
            yield
            return
        write = protocol.write

        def write_in_time(data: bytes) -> None:
            require_time(deadline)
            write(data)

        protocol.write = write_in_time  # type: ignore[method-assign]
        try:
            yield
        finally:
            protocol.write = write  # type: ignore[method-assign]


@dataclass(frozen=True)
class SmtpServer:
    """What ``SMTP_URL`` says."""

    scheme: str
    host: str
    port: int
    username: str | None
    password: str | None = field(repr=False)


async def _quit(client: aiosmtplib.SMTP) -> None:
    # The message is accepted; how the conversation ends no longer matters, and is worth no wait.
    with contextlib.suppress(aiosmtplib.SMTPException, OSError):
        await client.quit(timeout=_QUIT_SECONDS)


def _meaning(error: aiosmtplib.SMTPException | OSError, *, is_handed_over: bool) -> ServiceError:
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _refusal(error, is_handed_over=is_handed_over)
    if isinstance(error, OSError):  # also the library's errors about connections
        return _broken(error, is_handed_over=is_handed_over)
    return ServiceError("fatal", f"The mail server lacks something this needs: {error.message}")


def _refusal(error: aiosmtplib.SMTPResponseException, *, is_handed_over: bool) -> ServiceError:
    answer = f"The mail server answered {error.code} {error.message}"
    if 400 <= error.code < 500:
        return ServiceError("retryable", answer)
    if 500 <= error.code < 600 or not is_handed_over:
        return ServiceError("fatal", answer)
    return ServiceError("outcome_unknown", f"{answer}, which says nothing about the message.")


def _broken(error: OSError, *, is_handed_over: bool) -> ServiceError:
    reason = str(error) or type(error).__name__
    if is_handed_over:
        return ServiceError("outcome_unknown", f"The mail server may or may not have taken the message: {reason}")
    return ServiceError("retryable", f"The mail server cannot be used: {reason}")


def parse_smtp_url(url: str) -> SmtpServer:
    """Read ``SMTP_URL``.

    Raises:
        ConfigurationError: It is malformed. The message never quotes it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in _DEFAULT_PORTS or parts.path.strip("/") or parts.query or parts.fragment:
        raise ConfigurationError(
            "SMTP_URL is malformed. Write smtp://[user:password@]host[:port], or smtps:// or smtp+starttls:// in the "
            "same form; percent-encode special characters of user and password."
        )
    username = unquote(parts.username) if parts.username is not None else None
    password = unquote(parts.password) if parts.password is not None else None
    return SmtpServer(parts.scheme, host, port or _DEFAULT_PORTS[parts.scheme], username, password)


def parse_sender(text: str) -> EmailAddress:
    """Read ``SMTP_FROM``.

    Raises:
        ConfigurationError: It is malformed.
    """
    name, address = parseaddr(text)
    sender = EmailAddress(address=address, display_name=name or None)
    try:
        check_address(sender)
    except ServiceError:
        raise ConfigurationError(f"SMTP_FROM: {text!r} is no sender. Write a@b.c or Name <a@b.c>.") from None
    return sender

"""What core offers to plugins. Every call is checked against the plugin's scopes and audited."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class EmailAddress:
    """A mailbox and the name to show for it."""

    address: str
    display_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class EmailMessage:
    """A mail to send.

    Attributes:
        sender: None takes the deployment's default (``SMTP_FROM``).
        headers: Additional ones. Names and values with CR, LF or NUL are refused.
    """

    to: Sequence[EmailAddress]
    subject: str
    text_body: str | None = None
    html_body: str | None = None
    cc: Sequence[EmailAddress] = ()
    bcc: Sequence[EmailAddress] = ()
    sender: EmailAddress | None = None
    reply_to: EmailAddress | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """What the provider said.

    Attributes:
        provider_message_id: The provider's id; for SMTP the ``Message-ID``.
    """

    provider_message_id: str
    accepted_recipients: Sequence[str]
    rejected_recipients: Sequence[str] = ()


class EmailService(Protocol):
    """Sends through the active provider, or by SMTP."""

    async def send(
        self,
        message: EmailMessage,
        *,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("email:send",),
    ) -> SendResult:
        """Send one mail; the ``Message-ID`` derives from the invocation's idempotency key.

        Raises:
            ServiceError: ``denied`` without the scope, ``validation`` for a bad address or header, ``retryable``
                when the server is away or answered 4xx, ``fatal`` when it answered 5xx, ``outcome_unknown`` when
                the connection broke after the message was handed over.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """An outgoing HTTP request.

    Attributes:
        secret_headers: Like `headers`, for credentials: never shown, and dropped when a redirect leaves the origin.
        json: A JSON body; None sends none.
        content: The body's bytes; set `json` instead for a JSON body.
        timeout: Of the whole exchange.
        max_response_bytes: A longer answer is a ``fatal`` error.
        allowed_hosts: Narrows where redirects and the request itself may go: exact hosts, or ``*.example.com`` for
            every host below a domain. None allows every public host.
        is_repeatable: The receiver recognises a repeated request, for example by an idempotency key in a header;
            a connection that failed after the request was sent is then ``retryable`` for every method.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    timeout: timedelta = timedelta(seconds=60)
    max_response_bytes: int = 1024 * 1024
    allowed_hosts: Sequence[str] | None = None
    is_repeatable: bool = False


@dataclass(frozen=True, kw_only=True)
class HttpResponse:
    """The answer, read whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class HttpService(Protocol):
    """HTTP through the egress guard: private, loopback, link-local and metadata addresses are refused."""

    async def request(self, request: HttpRequest, *, actor_id: str | None = None) -> HttpResponse:
        """Send one request. Redirects are followed for GET and HEAD only, each hop guarded.

        Any status is an answer, not an error.

        Raises:
            ServiceError: ``denied`` for a guarded address or a host outside `allowed_hosts`, ``validation`` for a
                malformed URL or header, ``retryable`` when the connection failed before the request was sent (at any
                time for GET, HEAD and repeatable requests), ``outcome_unknown`` when it failed later, ``fatal`` for an
                oversized answer.
        """
        ...


class Services(Protocol):
    """The services of one call."""

    @property
    def email(self) -> EmailService:
        """Mail."""
        ...

    @property
    def http(self) -> HttpService:
        """HTTP."""
        ...

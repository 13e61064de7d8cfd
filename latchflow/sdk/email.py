"""Mail: what a plugin hands to core, and what a provider of the kind ``email`` gets from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

MAX_ATTACHMENT_BYTES = 20 * 1024 * 1024
"""Of all attachments of a mail together."""


@dataclass(frozen=True, kw_only=True)
class EmailAddress:
    """A mailbox and the name to show for it."""

    address: str
    display_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class EmailAttachment:
    """A file that goes with a mail. All of a mail have at most `MAX_ATTACHMENT_BYTES` together."""

    name: str
    content: bytes = field(repr=False)
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, kw_only=True)
class EmailMessage:
    """A mail to send.

    Attributes:
        sender: None takes the provider's own sender; for SMTP the deployment's default (``SMTP_FROM``).
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
    attachments: Sequence[EmailAttachment] = ()


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """What the provider said.

    Attributes:
        provider_message_id: The provider's id; for SMTP the ``Message-ID``.
    """

    provider_message_id: str
    accepted_recipients: Sequence[str]
    rejected_recipients: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class EmailDelivery:
    """What a provider is asked to send.

    Attributes:
        message_id: The ``Message-ID`` to send it under, in angle brackets; the same for every attempt.
        idempotency_key: Equal for all attempts at this mail.
        deadline: When the attempt ends (UTC); a provider that answers later is not heard, and must start nothing later:
            look at the clock immediately before sending.
    """

    message: EmailMessage
    message_id: str
    idempotency_key: str
    deadline: datetime


@runtime_checkable
class EmailProvider(Protocol):
    """What a class registered with ``kind="email"`` must have."""

    async def send(self, delivery: EmailDelivery) -> SendResult:
        """Send one mail.

        Raises:
            ServiceError: ``outcome_unknown`` when the mail may have been accepted all the same: core then sends no
                second one. Every other kind says that it was not accepted; core may fall back on SMTP.
        """
        ...


@runtime_checkable
class EmailLookup(Protocol):
    """What an email provider may have beside `EmailProvider`: it can tell whether a mail was accepted."""

    async def find(self, delivery: EmailDelivery) -> SendResult | None:
        """What became of a mail that may have been sent; None when the provider does not have it."""
        ...


class EmailService(Protocol):
    """Sends through the active provider, or by SMTP when there is none or it refused before accepting the mail."""

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

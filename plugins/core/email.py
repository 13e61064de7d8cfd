"""The action ``email.send``."""

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from latchflow.sdk import ActionCall, EmailAddress, EmailMessage

from .attachments import Attachment, read_attachments
from .config import ActionConfig, Headers, merged, required

AddressText = Annotated[str, StringConstraints(pattern=r"^[^@\s<>,;]+@[^@\s<>,;]+$", max_length=254)]
Line = Annotated[str, StringConstraints(pattern=r"^[^\r\n\x00]*$", max_length=998)]


class NamedAddress(ActionConfig):
    """A mailbox with the name to show for it."""

    address: AddressText
    display_name: Line | None = None


Recipient = AddressText | NamedAddress
Overridable = Literal["to", "cc", "bcc", "subject", "textBody", "htmlBody", "from", "replyTo", "headers", "attachments"]


class EmailSendConfig(ActionConfig):
    """The mail to send. Needed at the call: ``subject``, and a recipient in ``to``."""

    to: list[Recipient] | None = Field(None, max_length=1000)
    cc: list[Recipient] | None = Field(None, max_length=1000)
    bcc: list[Recipient] | None = Field(None, max_length=1000)
    subject: Line | None = None
    text_body: str | None = None
    html_body: str | None = None
    sender: Recipient | None = Field(None, alias="from", description="Default: the deployment's sender.")
    reply_to: Recipient | None = None
    headers: Headers | None = None
    attachments: list[Attachment] | None = Field(
        None, max_length=50, description="Objects of bundles; 20 MiB together at most."
    )
    overridable: list[Overridable] | None = Field(
        None, description="Fields that the event's context may set where the step has no input."
    )


async def email_send(call: ActionCall[EmailSendConfig]) -> dict[str, Any]:
    """Send one mail through the email service."""
    config = merged(call)
    to, subject = _addresses(required(config.to, "to")), required(config.subject, "subject")
    result = await call.services.email.send(
        EmailMessage(
            to=to,
            subject=subject,
            text_body=config.text_body,
            html_body=config.html_body,
            cc=_addresses(config.cc),
            bcc=_addresses(config.bcc),
            sender=_address(config.sender) if config.sender is not None else None,
            reply_to=_address(config.reply_to) if config.reply_to is not None else None,
            headers=config.headers or {},
            attachments=await read_attachments(call.services.storage, config.attachments) if config.attachments else (),
        )
    )
    return {
        "providerMessageId": result.provider_message_id,
        "acceptedRecipients": list(result.accepted_recipients),
        "rejectedRecipients": list(result.rejected_recipients),
    }


def _addresses(entries: list[Recipient] | None) -> list[EmailAddress]:
    return [_address(entry) for entry in entries or ()]


def _address(entry: Recipient) -> EmailAddress:
    if isinstance(entry, str):
        return EmailAddress(address=entry)
    return EmailAddress(address=entry.address, display_name=entry.display_name)

"""From the SDK's mail to the bytes of RFC 5322."""

import hashlib
import re
from collections.abc import Sequence
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage as MimeMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime

from latchflow.sdk import MAX_ATTACHMENT_BYTES, EmailAddress, EmailMessage, ServiceError

# 7-bit content passes every server, whatever extensions it has.
_POLICY = SMTP.clone(cte_type="7bit")
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
# Each label ends where a dot begins the next: a text has one way to match, however long it is.
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@{label}(?:\.{label})*\.?".replace("{label}", _LABEL))
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset(
    {"from", "to", "cc", "bcc", "sender", "reply-to", "subject", "date", "message-id", "mime-version"}
)
_CONTENT_TYPE = re.compile(
    r"(?!(?i:multipart|message)/)[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*/[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]*"
)
_LONGEST_NAME = 255
_LONGEST_ADDRESS = 254
_OWN_DOMAIN = "latchflow.internal"  # a top level that is kept free for private use
_OWN_PREFIXES = ("content-", "resent-", "return-path", "received")


def message_id(message: EmailMessage, idempotency_key: str) -> str:
    """The ``Message-ID`` of a mail, in angle brackets: the same for every attempt and whoever delivers it.

    Nothing that an operator may change between two attempts goes into it, or no provider would find the mail again.
    """
    domain = message.sender.address.rpartition("@")[2] if message.sender is not None else _OWN_DOMAIN
    return f"<{hashlib.sha256(idempotency_key.encode()).hexdigest()}@{domain}>"


def build(message: EmailMessage, sender: EmailAddress, identifier: str) -> MimeMessage:
    """Build the message; blind copies appear nowhere in it.

    Args:
        message: Checked by `check`.
        sender: The one of the message, or who stands in for it.
        identifier: Its ``Message-ID``.

    Raises:
        ServiceError: ``validation``, saying which part is wrong.
    """
    mime = MimeMessage(policy=_POLICY)
    try:
        mime["From"] = _mailbox(sender)
        for name, addresses in (("To", message.to), ("Cc", message.cc)):
            if addresses:
                mime[name] = [_mailbox(address) for address in addresses]
        if message.reply_to is not None:
            mime["Reply-To"] = _mailbox(message.reply_to)
        mime["Subject"] = message.subject
        mime["Date"] = format_datetime(localtime())
        mime["Message-ID"] = identifier
        for name, value in message.headers.items():
            mime[name] = value
        _set_body(mime, message)
        for attachment in message.attachments:
            main_type, _, subtype = attachment.content_type.partition("/")
            mime.add_attachment(attachment.content, maintype=main_type, subtype=subtype, filename=attachment.name)
        mime.as_bytes()
    except (ValueError, LookupError, MessageError) as error:
        raise ServiceError("validation", f"The mail cannot be written: {error}") from error
    return mime


def recipients(message: EmailMessage) -> Sequence[str]:
    """Every address the message goes to, each once."""
    return tuple(dict.fromkeys(entry.address for entry in (*message.to, *message.cc, *message.bcc)))


def check_address(address: EmailAddress) -> None:
    """Refuse what is no mailbox, and names that could begin another header.

    Raises:
        ServiceError: ``validation``.
    """
    if len(address.address) > _LONGEST_ADDRESS or not _ADDRESS.fullmatch(address.address):
        shown = address.address[:_LONGEST_ADDRESS]
        fault = f"{shown!r} is not an email address. Write a@b.c; a domain outside ASCII in its xn-- form."
        raise ServiceError("validation", fault)
    _refuse_line_breaks(address.display_name or "", f"The name shown for {address.address}")


def check(message: EmailMessage) -> None:
    """Refuse a mail that nobody could deliver, or that would be another one on its way.

    Raises:
        ServiceError: ``validation``, saying which part is wrong.
    """
    if not recipients(message):
        raise ServiceError("validation", "The mail has no recipient. Name at least one in to, cc or bcc.")
    for address in (*message.to, *message.cc, *message.bcc):
        check_address(address)
    for one in (message.sender, message.reply_to):
        if one is not None:
            check_address(one)
    _refuse_line_breaks(message.subject, "The subject")
    for name, value in message.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ServiceError("validation", f"{name!r} cannot be the name of a header.")
        if name.lower() in _OWN_HEADERS or name.lower().startswith(_OWN_PREFIXES):
            raise ServiceError("validation", f"The header {name} follows from the message and cannot be set.")
        _refuse_line_breaks(value, f"The header {name}")
    _check_attachments(message)


def _check_attachments(message: EmailMessage) -> None:
    for attachment in message.attachments:
        _refuse_line_breaks(attachment.name, "The name of an attachment")
        if not attachment.name.strip() or "/" in attachment.name or len(attachment.name) > _LONGEST_NAME:
            raise ServiceError(
                "validation",
                f"{attachment.name[:80]!r} cannot be the name of an attachment: write a file's name without a folder.",
            )
        if not _CONTENT_TYPE.fullmatch(attachment.content_type):
            fault = f"{attachment.content_type[:80]!r} cannot be the content type of an attachment."
            raise ServiceError("validation", f"{fault} Write type/subtype, for example application/pdf.")
    total = sum(len(attachment.content) for attachment in message.attachments)
    if total > MAX_ATTACHMENT_BYTES:
        raise ServiceError(
            "validation", f"The attachments have {total} bytes; at most {MAX_ATTACHMENT_BYTES} go with one mail."
        )


def _refuse_line_breaks(text: str, what: str) -> None:
    if any(character in "\r\n\0" for character in text):
        raise ServiceError("validation", f"{what} holds CR, LF or NUL.")


def _mailbox(address: EmailAddress) -> Address:
    return Address(display_name=address.display_name or "", addr_spec=address.address)


def _set_body(mime: MimeMessage, message: EmailMessage) -> None:
    if message.html_body is None:
        mime.set_content(message.text_body or "")
    elif message.text_body is None:
        mime.set_content(message.html_body, subtype="html")
    else:
        mime.set_content(message.text_body)
        mime.add_alternative(message.html_body, subtype="html")

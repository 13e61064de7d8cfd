"""From the SDK's mail to the bytes of RFC 5322."""

import hashlib
import re
from collections.abc import Sequence
from email.errors import MessageError
from email.headerregistry import Address
from email.message import EmailMessage as MimeMessage
from email.policy import SMTP
from email.utils import format_datetime, localtime

from latchflow.sdk import EmailAddress, EmailMessage, ServiceError

# 7-bit content passes every server, whatever extensions it has.
_POLICY = SMTP.clone(cte_type="7bit")
_ADDRESS = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]+@(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?\.?)+")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_OWN_HEADERS = frozenset(
    {"from", "to", "cc", "bcc", "sender", "reply-to", "subject", "date", "message-id", "mime-version"}
)
_OWN_PREFIXES = ("content-", "resent-", "return-path", "received")


def build(message: EmailMessage, sender: EmailAddress, idempotency_key: str) -> MimeMessage:
    """Build the message; blind copies appear nowhere in it.

    Raises:
        ServiceError: ``validation``, saying which part is wrong.
    """
    _check(message, sender)
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
        digest = hashlib.sha256(idempotency_key.encode()).hexdigest()
        mime["Message-ID"] = f"<{digest}@{sender.address.rpartition('@')[2]}>"
        for name, value in message.headers.items():
            mime[name] = value
        _set_body(mime, message)
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
    if not _ADDRESS.fullmatch(address.address) or len(address.address) > 254:
        raise ServiceError(
            "validation",
            f"{address.address!r} is not an email address. Write a@b.c; a domain outside ASCII in its xn-- form.",
        )
    _refuse_line_breaks(address.display_name or "", f"The name shown for {address.address}")


def _check(message: EmailMessage, sender: EmailAddress) -> None:
    if not recipients(message):
        raise ServiceError("validation", "The mail has no recipient. Name at least one in to, cc or bcc.")
    for address in (sender, *message.to, *message.cc, *message.bcc):
        check_address(address)
    if message.reply_to is not None:
        check_address(message.reply_to)
    _refuse_line_breaks(message.subject, "The subject")
    for name, value in message.headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ServiceError("validation", f"{name!r} cannot be the name of a header.")
        if name.lower() in _OWN_HEADERS or name.lower().startswith(_OWN_PREFIXES):
            raise ServiceError("validation", f"The header {name} follows from the message and cannot be set.")
        _refuse_line_breaks(value, f"The header {name}")


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

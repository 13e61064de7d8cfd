"""A mail as a JSON document; whatever a sender got wrong, there is a document."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any


def describe_mail(raw: bytes) -> dict[str, Any]:
    """Subject, headers (of several with one name, all, one per line) and bodies."""
    message = message_from_bytes(raw, policy=policy.default)
    headers: dict[str, str] = {}
    for name, stored in message.raw_items():
        value = _decoded(name, str(stored))
        headers[name] = f"{headers[name]}\n{value}" if name in headers else value
    subject = next((value for name, value in headers.items() if name.lower() == "subject"), "")
    return {
        "subject": subject,
        "headers": headers,
        "textBody": _body(message, "plain"),
        "htmlBody": _body(message, "html"),
    }


def _decoded(name: str, stored: str) -> str:
    try:
        # A long value may begin on a line of its own; the space that joins the two is not part of it.
        return str(policy.default.header_fetch_parse(name, stored)).strip()
    except Exception:
        return stored.strip()


def _body(message: EmailMessage, subtype: str) -> str | None:
    try:
        part = message.get_body((subtype,))
    except Exception:
        return None
    if part is None:
        return None
    payload = part.get_payload(decode=True)
    data = payload if isinstance(payload, bytes) else str(payload).encode()
    try:
        text = data.decode(part.get_content_charset("utf-8"), errors="replace")
    except LookupError:
        text = data.decode("utf-8", errors="replace")
    return text.replace("\r\n", "\n")

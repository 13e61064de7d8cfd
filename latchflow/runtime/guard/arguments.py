"""What plugins hand in, taken over once as plain values, on the plugin's own loop.

An object of a plugin may answer differently each time it is asked: what was checked would not be what is used.
So nothing of it crosses to the host: every text, list and mapping is read once, here, and copied.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from functools import wraps
from itertools import islice
from typing import Any, ParamSpec, TypeVar
from uuid import UUID

from latchflow.sdk import (
    EmailAddress,
    EmailAttachment,
    EmailMessage,
    HttpRequest,
    ServiceError,
)

MOST_ITEMS = 1000
_LONGEST_ACTOR = 200
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

T = TypeVar("T")
P = ParamSpec("P")


def reading(function: Callable[P, T]) -> Callable[P, T]:
    """Let what the plugin's objects raise while they are read be a ``validation`` of its call."""

    @wraps(function)
    def read(*arguments: P.args, **options: P.kwargs) -> T:
        try:
            return function(*arguments, **options)
        except ServiceError:
            raise
        except Exception as error:
            message = f"An argument cannot be read: reading it raised {type(error).__name__}."
            raise ServiceError("validation", message) from None

    return read


@reading
def text_of(value: object, what: str) -> str:
    """A text, never an object that only behaves like one. Raises ServiceError: ``validation``."""
    if not isinstance(value, str):
        raise ServiceError("validation", f"{what} is no text.")
    return str.__str__(value)


def optional_text_of(value: object, what: str) -> str | None:
    """A text or None. Raises as `text_of`."""
    return None if value is None else text_of(value, what)


@reading
def actor_of(value: object) -> str | None:
    """Who the plugin says it acts for, as it stands in the audit. Raises ServiceError: ``validation``."""
    actor = optional_text_of(value, "actor_id")
    if actor is not None and (len(actor) > _LONGEST_ACTOR or _UNPRINTABLE.search(actor)):
        raise ServiceError("validation", f"actor_id has control characters or more than {_LONGEST_ACTOR} characters.")
    return actor


@reading
def scopes_of(needed: str, requested: object) -> tuple[str, ...]:
    """What a call must hold: the scope of its method, and whatever the plugin asks for beside it.

    Raises ServiceError: ``validation``.
    """
    return tuple(dict.fromkeys([needed, *_texts(requested, "requested_scopes")]))


@reading
def id_of(value: object, what: str) -> UUID:
    """An id that may come as text. Raises ServiceError: ``validation``."""
    try:
        if isinstance(value, UUID):
            number = vars(UUID)["int"].__get__(value)  # a subclass may show another one
            return UUID(int=number)
        return UUID(text_of(value, what))
    except (ValueError, TypeError, AttributeError):
        shown = str.__str__(value)[:80] if isinstance(value, str) else type(value).__name__
        raise ServiceError("validation", f"{shown!r} is not the id of a {what}.") from None


def switch_of(value: object) -> bool:
    """A state to set. Raises ServiceError: ``validation`` for all but True and False: "false" switches nothing on."""
    if value is True or value is False:
        return bool(value)
    raise ServiceError("validation", "is_enabled is neither True nor False.")


@reading
def duration_of(value: object, what: str) -> timedelta:
    """A duration. Raises ServiceError: ``validation``."""
    if not isinstance(value, timedelta):
        raise ServiceError("validation", f"{what} is no timedelta.")
    plain = vars(timedelta)
    return timedelta(*(plain[part].__get__(value) for part in ("days", "seconds", "microseconds")))


@reading
def number_of(value: object, what: str) -> int:
    """A whole number. Raises ServiceError: ``validation``."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ServiceError("validation", f"{what} is no whole number.")
    return int.__add__(value, 0)


@reading
def bytes_of(value: object, what: str) -> bytes:
    """Bytes. Raises ServiceError: ``validation``."""
    if type(value) is bytes:
        return value
    if not isinstance(value, bytes | bytearray | memoryview):
        raise ServiceError("validation", f"{what} is not made of bytes.")
    return memoryview(value).tobytes()


@reading
def message_of(message: EmailMessage) -> EmailMessage:
    """A mail. Raises ServiceError: ``validation``."""
    return EmailMessage(
        to=_addresses(message.to, "to"),
        subject=text_of(message.subject, "subject"),
        text_body=optional_text_of(message.text_body, "text_body"),
        html_body=optional_text_of(message.html_body, "html_body"),
        cc=_addresses(message.cc, "cc"),
        bcc=_addresses(message.bcc, "bcc"),
        sender=None if message.sender is None else _address(message.sender, "sender"),
        reply_to=None if message.reply_to is None else _address(message.reply_to, "reply_to"),
        headers=_mapping(message.headers, "headers"),
        attachments=tuple(map(_attachment, _items(message.attachments, "attachments"))),
    )


@reading
def request_of(request: HttpRequest) -> HttpRequest:
    """A request. Raises ServiceError: ``validation``."""
    return HttpRequest(
        method=text_of(request.method, "method"),
        url=text_of(request.url, "url"),
        headers=_mapping(request.headers, "headers"),
        secret_headers=_mapping(request.secret_headers, "secret_headers"),
        query=_mapping(request.query, "query"),
        json=_json_of(request.json),
        content=None if request.content is None else bytes_of(request.content, "content"),
        timeout=None if request.timeout is None else duration_of(request.timeout, "timeout"),
        max_response_bytes=number_of(request.max_response_bytes, "max_response_bytes"),
        allowed_hosts=None if request.allowed_hosts is None else _texts(request.allowed_hosts, "allowed_hosts"),
        is_repeatable=request.is_repeatable is True,
    )


def _json_of(value: object) -> Any:
    if value is None:
        return None
    try:
        return json.loads(json.dumps(value, ensure_ascii=False, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise ServiceError("validation", f"The body cannot be written as JSON: {error}") from None


def _addresses(values: object, what: str) -> tuple[EmailAddress, ...]:
    return tuple(_address(value, what) for value in _items(values, what))


def _address(value: Any, what: str) -> EmailAddress:
    return EmailAddress(
        address=text_of(value.address, f"An address in {what}"),
        display_name=optional_text_of(value.display_name, f"A name in {what}"),
    )


def _attachment(value: Any) -> EmailAttachment:
    return EmailAttachment(
        name=text_of(value.name, "The name of an attachment"),
        content=bytes_of(value.content, "The content of an attachment"),
        content_type=text_of(value.content_type, "The content type of an attachment"),
    )


def _mapping(value: Any, what: str) -> dict[str, str]:
    if not isinstance(value, Mapping):
        raise ServiceError("validation", f"{what} is no mapping.")
    pairs = _items(value.items(), what)
    return {text_of(name, f"A name in {what}"): text_of(content, f"A value in {what}") for name, content in pairs}


def _texts(values: object, what: str) -> tuple[str, ...]:
    if isinstance(values, str):
        raise ServiceError("validation", f"{what} is one text; give a list of texts.")
    return tuple(text_of(value, f"An entry of {what}") for value in _items(values, what))


def _items(values: Any, what: str) -> list[Any]:
    if not isinstance(values, Iterable):
        raise ServiceError("validation", f"{what} is no list.")
    items = list(islice(values, MOST_ITEMS + 1))
    if len(items) > MOST_ITEMS:
        raise ServiceError("validation", f"{what} has more than {MOST_ITEMS} entries.")
    return items

"""Pages of lists: the parameters, and the cursor, which is opaque to callers."""

import base64
import binascii
import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import Query

from latchflow.errors import FieldError, InvalidInputError
from latchflow.store.pages import Page, page_of

Limit = Annotated[int, Query(ge=1, le=200, description="Items at most.")]
Cursor = Annotated[str | None, Query(max_length=1000, description="`nextCursor` of the page before.")]

_CHECKSUM_BYTES = 8

T = TypeVar("T")


def encode_cursor(listing: str, key: Any) -> str | None:
    """The cursor of a sort key, good for one listing; None when nothing follows."""
    if key is None:
        return None
    parts = key if isinstance(key, tuple) else (key,)
    content = json.dumps([part.isoformat() if isinstance(part, datetime) else part for part in parts], default=str)
    return base64.urlsafe_b64encode(_checksum(listing, content) + content.encode()).decode().rstrip("=")


def decode_cursor(listing: str, cursor: str | None) -> list[Any] | None:
    """The sort key of a cursor, as JSON has it.

    Raises:
        InvalidInputError: It was edited, or belongs to another listing.
    """
    if cursor is None:
        return None
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        content = raw[_CHECKSUM_BYTES:].decode()
    except (binascii.Error, ValueError):
        raw, content = b"", ""
    canonical = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    if canonical != cursor or raw[:_CHECKSUM_BYTES] != _checksum(listing, content):
        message = "query parameter 'cursor': Take it unchanged from the nextCursor of this list."
        raise InvalidInputError("The cursor is not one of this list.", [FieldError(pointer="/cursor", message=message)])
    key: list[Any] = json.loads(content)
    return key


def decode_time_cursor(listing: str, cursor: str | None) -> tuple[datetime, UUID] | None:
    """The sort key of a listing by time and id. Raises as `decode_cursor`."""
    key = decode_cursor(listing, cursor)
    return None if key is None else (datetime.fromisoformat(key[0]), UUID(key[1]))


def page_in_memory(
    listing: str, items: Sequence[T], key: Callable[[T], tuple[int, str]], limit: int, cursor: str | None
) -> Page[T]:
    """A page of a list that was read whole. Raises as `decode_cursor`."""
    after = decode_cursor(listing, cursor)
    ordered = sorted(items, key=key)
    return page_of([item for item in ordered if after is None or list(key(item)) > after], limit, key)


def _checksum(listing: str, content: str) -> bytes:
    return hashlib.sha256(f"{listing}\n{content}".encode()).digest()[:_CHECKSUM_BYTES]

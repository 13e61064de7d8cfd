"""Reading a body by its media type."""

import base64
import json
import math
from email.message import Message
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from latchflow.sdk import InboundRequest

MAX_DEPTH = 100
_MAX_FORM_FIELDS = 1000
# Python knows many more, some of which decode slowly or to what is no text.
_CHARSETS = frozenset({"ascii", "us-ascii", "utf-8", "utf8", "utf-16", "iso-8859-1", "latin-1", "windows-1252"})


class MalformedBodyError(Exception):
    """The body is not what its media type says; the message may be told to its sender."""


def parse_body(request: InboundRequest, *, is_github: bool) -> tuple[Any, dict[str, Any]]:
    """The body as a JSON value, and facts about how it was read.

    JSON is parsed, a form becomes an object (of a repeated field, the last value), text a string; anything else is
    given in base64 and said to be so. GitHub may send its JSON in the form field ``payload``.

    Raises:
        MalformedBodyError: The body breaks the rules of its media type.
    """
    if not request.body:
        return None, {}
    header = Message()
    media_type = request.headers.get("content-type", "")
    header["content-type"] = media_type if "/" in media_type else "application/octet-stream"
    subtype = header.get_content_subtype()
    if subtype == "json" or subtype.endswith("+json"):
        return _json(request.body), {}
    if header.get_content_type() == "application/x-www-form-urlencoded":
        form = _form(request.body)
        return (_json(form["payload"].encode()) if is_github and "payload" in form else form), {}
    if header.get_content_maintype() == "text":
        return _text(request.body, header.get_content_charset("utf-8")), {}
    return base64.b64encode(request.body).decode(), {"bodyEncoding": "base64"}


def _json(body: bytes) -> Any:
    try:
        value = json.loads(body, parse_constant=_refuse_constant, parse_float=_finite)
        if b"\\u" in body:
            json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no character
    except (ValueError, RecursionError):
        raise MalformedBodyError("The body is not JSON, though its media type says so.") from None
    if _depth_exceeds(value, MAX_DEPTH):
        raise MalformedBodyError(f"The JSON of the body is nested deeper than {MAX_DEPTH} levels.")
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit + 1):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return False
    return True


def _form(body: bytes) -> dict[str, str]:
    try:
        fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MAX_FORM_FIELDS, errors="strict")
    except ValueError:
        raise MalformedBodyError(f"The body is not a form of at most {_MAX_FORM_FIELDS} fields in UTF-8.") from None
    return dict(fields)


def _text(body: bytes, charset: str) -> str:
    if charset not in _CHARSETS:
        raise MalformedBodyError(f"Text in {charset} cannot be read. Send UTF-8.")
    try:
        return body.decode(charset)
    except ValueError:
        raise MalformedBodyError(f"The body is not text in {charset}, though its media type says so.") from None

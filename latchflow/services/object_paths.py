"""What the path and the media type of an object may look like."""

import re
import unicodedata

from latchflow.sdk import ServiceError

MAX_PATH_BYTES = 1024

# Control characters, halves of characters, and separators of lines, which would break listings and headers.
_REFUSED_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
# What some reader further on might decode once more: . / \ and NUL.
_ENCODED = re.compile(r"%(?:2e|2f|5c|00)", re.IGNORECASE)
_UNREADABLE = "\ufffd"  # what a server makes of bytes that are no UTF-8
_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - a token of RFC 9110
_MEDIA_TYPE = re.compile(rf"{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*{_TOKEN}=(?:{_TOKEN}|\"[ !#-\[\]-~]*\"))*")


def check_path(path: str) -> None:
    """Check the path of an object: segments separated by ``/``, 1024 bytes of UTF-8 at most.

    Raises:
        ServiceError: ``validation``, saying what is wrong.
    """
    fault = _fault(path)
    if fault is not None:
        raise ServiceError("validation", f"This cannot be the path of an object: {fault}.")


def check_content_type(content_type: str) -> None:
    """Check a media type, with or without parameters.

    Raises:
        ServiceError: ``validation``.
    """
    if len(content_type) > 255 or not _MEDIA_TYPE.fullmatch(content_type):
        raise ServiceError("validation", "The content type is not of the form type/subtype, or too long.")


def _fault(path: str) -> str | None:
    if not isinstance(path, str):
        return "it is no text"
    if any(unicodedata.category(character) in _REFUSED_CATEGORIES for character in path) or _UNREADABLE in path:
        return "it holds a character that cannot be shown"
    if len(path.encode()) > MAX_PATH_BYTES:
        return f"it is longer than {MAX_PATH_BYTES} bytes"
    if "\\" in path or _ENCODED.search(path):
        return r"it holds \, or %2e, %2f, %5c or %00"
    if any(segment in ("", ".", "..") for segment in path.split("/")):
        return "it begins or ends with /, or a part of it is empty, . or .."
    return None

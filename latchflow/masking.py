"""Texts as people read them: without known secret values, and fit to be stored and shown."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "[secret]"
_SHORTEST = 4  # below that, masking would tear ordinary words apart
_UNFIT = re.compile("[\x00\ud800-\udfff]")


def mask(text: str, secrets: Iterable[str]) -> str:
    """Replace every occurrence of every secret, in its common encodings too, the longest first."""
    written = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
    for form in sorted(written, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


def readable(text: str) -> str:
    """The text with what neither Postgres nor UTF-8 can hold (NUL, lone surrogates) replaced by U+FFFD."""
    return _UNFIT.sub("\ufffd", text)


def readable_json(value: Any) -> Any:
    """A JSON value with every text in it readable, keys too."""
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping):
        return {readable(str(name)): readable_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [readable_json(item) for item in value]
    return value


def strings_in(value: Any) -> list[str]:
    """Every string inside a JSON value, at any depth; of objects, the values."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in strings_in(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in strings_in(item)]
    return []


def _forms(secret: str) -> Iterator[str]:
    data = secret.encode(errors="surrogatepass")
    plain = base64.b64encode(data).decode()
    yield secret
    yield from (plain.rstrip("="), base64.urlsafe_b64encode(data).decode().rstrip("="), data.hex())
    yield from (quote(data, safe=""), quote(data), quote_plus(data))
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])

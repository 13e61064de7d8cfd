"""Texts as people read them: without known secret values, and fit to be stored and shown."""

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "[secret]"
_SHORTEST = 4  # below that, masking would tear ordinary words apart
_SHORTEST_CREDENTIAL = 8
_ESCAPED = re.compile("%[0-9A-F]{2}")
_UNFIT = re.compile("[\x00\ud800-\udfff]")
# But for tab and newline: what moves the cursor, colours, or writes from right to left.
_UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Masker:
    """Takes secrets out of texts and JSON values, in their common encodings too; false when there are none to take.

    Secrets under four characters are left alone.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        written = {
            form
            for secret in set(secrets)
            for part in _parts(secret)
            if len(part) >= _SHORTEST
            for form in _forms(part)
            if len(form) >= _SHORTEST
        }
        self._forms = sorted(written, key=lambda form: (-len(form), form))

    def __bool__(self) -> bool:
        return bool(self._forms)

    def text(self, text: str) -> str:
        """The text with every occurrence replaced, the longest first."""
        return _replaced(text, self._forms)

    def value(self, value: Any) -> Any:
        """The value with every string in it masked, the names of properties too."""
        # One search in everything at once: most values hold no secret, and then nothing is copied.
        everything = "\n".join(_texts(value)) if self._forms else ""
        found = [form for form in self._forms if form in everything]
        return _masked(value, found) if found else value


_HIDDEN: ContextVar["Masker | None"] = ContextVar("hidden_in_logs", default=None)


@contextmanager
def hidden_in_logs(secret: str) -> Iterator[None]:
    """Keep a secret that passes through here out of every log entry written meanwhile, also from a plugin's loop."""
    token = _HIDDEN.set(Masker([secret]))
    try:
        yield
    finally:
        _HIDDEN.reset(token)


def hidden_now() -> "Masker | None":
    """What log entries must not show at this place; None where there is no such thing."""
    return _HIDDEN.get()


def mask(text: str, secrets: Iterable[str]) -> str:
    """Replace every occurrence of every secret, in its common encodings too, the longest first."""
    return Masker(secrets).text(text)


def readable(text: str) -> str:
    """The text with what neither Postgres nor UTF-8 can hold (NUL, lone surrogates) replaced by U+FFFD."""
    return _UNFIT.sub("\ufffd", text)


def printable(text: str) -> str:
    """A readable text that does nothing to the terminal or page that shows it."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n"))


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


def _replaced(text: str, forms: Iterable[str]) -> str:
    text = str.__str__(text)  # a subclass may answer for itself
    for form in forms:
        text = text.replace(form, MASK)
    return text


def _masked(value: Any, forms: list[str]) -> Any:
    if isinstance(value, str):
        return _replaced(value, forms)
    if isinstance(value, Mapping):
        return {_masked(name, forms): _masked(item, forms) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(item, forms) for item in value]
    return value


def _texts(value: Any) -> Iterator[str]:
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, Mapping):
            pending += part.keys()
            pending += part.values()
        elif isinstance(part, list | tuple):
            pending += part


def _parts(secret: str) -> Iterator[str]:
    """The secret; of a header like ``Bearer abc`` also what follows the scheme, which servers quote alone."""
    yield secret
    scheme, _, rest = secret.partition(" ")
    if scheme.isalpha() and len(rest) >= _SHORTEST_CREDENTIAL and " " not in rest:
        yield rest
        if scheme.lower() == "basic":
            yield from _password_in(rest)


def _password_in(credentials: str) -> Iterator[str]:
    try:
        yield base64.b64decode(credentials, validate=True).decode().partition(":")[2]
    except ValueError:
        return


def _forms(secret: str) -> Iterator[str]:
    data = secret.encode(errors="surrogatepass")
    yield secret
    whole = base64.b64encode(data).decode()
    for form in (whole, whole.rstrip("="), *(_base64_inside(data, before) for before in range(3))):
        yield from (form, form.replace("+", "-").replace("/", "_"))
    yield from (data.hex(), data.hex().upper())
    for safe in ("", "/", "!'()*"):
        yield from _percent(quote(data, safe=safe))
    yield from _percent(quote_plus(data))
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1])


def _base64_inside(data: bytes, before: int) -> str:
    """What of the base64 of a longer text depends on `data` alone, when `before` bytes of its first group precede."""
    encoded = base64.b64encode(b"\0" * before + data).decode()
    start = (before * 8 + 5) // 6
    end = (before + len(data)) * 8 // 6
    return encoded[start:end]


def _percent(form: str) -> tuple[str, str]:
    return form, _ESCAPED.sub(lambda found: found[0].lower(), form)

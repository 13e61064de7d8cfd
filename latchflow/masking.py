"""Taking known secret values out of what people read."""

from collections.abc import Iterable, Mapping
from typing import Any

MASK = "[secret]"
_SHORTEST = 4  # below that, masking would tear ordinary words apart


def mask(text: str, secrets: Iterable[str]) -> str:
    """Replace every occurrence of every secret, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= _SHORTEST:
            text = text.replace(secret, MASK)
    return text


def strings_in(value: Any) -> list[str]:
    """Every string inside a JSON value, at any depth; of objects, the values."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for item in value.values() for text in strings_in(item)]
    if isinstance(value, list | tuple):
        return [text for item in value for text in strings_in(item)]
    return []

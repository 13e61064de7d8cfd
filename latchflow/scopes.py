"""The scopes a token may carry, and what it takes to be let through."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

ALL = "*"

_READ_WRITE = ("plugins", "definitions", "config", "users", "storage", "secrets")

TOKEN_SCOPES: tuple[str, ...] = (
    *(f"{area}:{right}" for area in _READ_WRITE for right in ("read", "write")),
    "events:read",
    "events:operate",
    "audit:read",
    "codec:decode",
    "codec:encode",
    ALL,
)
"""Every scope there is, in the order the documentation lists them."""


def covers(held: Iterable[str], wanted: str) -> bool:
    """Whether a holder of these scopes may do, or pass on, what the wanted one allows."""
    held = frozenset(held)
    return wanted in held or ALL in held


ROLE_SCOPES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"ADMIN": (ALL,), "EXECUTOR": ("events:read", "events:operate")}
)
"""What the personal tokens of a user carry, by the user's role."""

"""Reading ``plugin.toml`` and finding its first fault."""

import re
import stat
import tomllib
from pathlib import Path
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from latchflow.names import normal_form
from latchflow.sdk import SDK_VERSION

SCOPES = frozenset(
    {
        "email:send",
        "users:read",
        "users:write",
        "storage:read",
        "storage:write",
        "bundles:toggle",
        "pipelines:toggle",
    }
)
_NAME = re.compile(r"(@[a-z0-9][a-z0-9-]*/)?[a-z0-9][a-z0-9._-]{0,63}")
_KNOWN_FIELDS = frozenset({"name", "version", "display_name", "sdk", "scopes"})
_MAX_BYTES = 64 * 1024


class TomlError(Exception):
    """A fault in a ``plugin.toml``.

    Attributes:
        field: Which field it is about; None when the file as a whole is at fault.
        name: The plugin's name, where that much could be read.
    """

    def __init__(self, file: Path, reason: str, *, field: str | None = None, name: str | None = None) -> None:
        super().__init__(f"{file}: {field}: {reason}" if field else f"{file}: {reason}")
        self.file = file
        self.field = field
        self.name = name


def read_plugin_toml(file: Path) -> dict[str, Any]:
    """The fields of a ``plugin.toml`` that is in order.

    Raises:
        TomlError: The first fault.
    """
    try:
        status = file.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise TomlError(file, "this is no plain file; put one in its place")
        if status.st_size > _MAX_BYTES:
            raise TomlError(file, f"it has {status.st_size} bytes; at most {_MAX_BYTES} are read")
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TomlError(file, "it is missing; a plugin's folder holds one") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise TomlError(file, f"it cannot be read: {error}") from None
    name = data.get("name")
    name = name if isinstance(name, str) and _NAME.fullmatch(name) else None
    for check in (_unknown_field, _bad_name, _bad_version, _bad_display_name, _bad_sdk, _bad_scopes):
        if fault := check(data):
            field, reason = fault
            raise TomlError(file, reason, field=field, name=name)
    return data


Fault = tuple[str | None, str] | None
"""The field and what is wrong with it."""


def _unknown_field(data: dict[str, object]) -> Fault:
    unknown = sorted(set(data) - _KNOWN_FIELDS)
    return (None, f"unknown field {unknown[0]!r}; known are {', '.join(sorted(_KNOWN_FIELDS))}") if unknown else None


def _bad_name(data: dict[str, object]) -> Fault:
    name = data.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return "name", 'write something like "acme-greeter" or "@acme/greeter", in lower case'
    if "_PROVIDER_" in normal_form(name):
        return "name", '"provider" cannot stand in the middle: config keys are PLUGIN_{NAME}_PROVIDER_{ID}'
    return None


def _bad_version(data: dict[str, object]) -> Fault:
    version = data.get("version")
    try:
        Version(version if isinstance(version, str) else "")
    except InvalidVersion:
        return "version", 'write something like "1.2.0", in quotes'
    return None


def _bad_display_name(data: dict[str, object]) -> Fault:
    display_name = data.get("display_name", "x")
    if not isinstance(display_name, str) or not display_name.strip() or not display_name.isprintable():
        return "display_name", 'write a line of text like "Greeter"'
    return None


def _bad_sdk(data: dict[str, object]) -> Fault:
    try:
        supported = SpecifierSet(str(data.get("sdk", "")))
    except InvalidSpecifier:
        return "sdk", 'write a range like ">=1,<2"'
    if "sdk" not in data or f"{SDK_VERSION}.0" not in supported:
        return "sdk", f'this Latchflow offers SDK {SDK_VERSION}; write a range that holds it, like ">=1,<2"'
    return None


def _bad_scopes(data: dict[str, object]) -> Fault:
    scopes = data.get("scopes", [])
    if not isinstance(scopes, list):
        return "scopes", 'write a list like ["email:send"]'
    unknown = [str(scope) for scope in scopes if not isinstance(scope, str) or scope not in SCOPES]
    if unknown:
        return "scopes", f"{unknown[0]!r} is none of {', '.join(sorted(SCOPES))}"
    return None

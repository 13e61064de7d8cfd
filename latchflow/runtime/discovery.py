"""Finding plugins and reading their ``plugin.toml``, without importing any of their code."""

import hashlib
import os
import re
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from latchflow.sdk import SDK_VERSION

ENTRY_POINT_GROUP = "latchflow.plugins"
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


@dataclass(frozen=True, kw_only=True)
class PluginSource:
    """A plugin as found on disk.

    Attributes:
        name: As in ``plugin.toml``; the folder's name when that cannot be read.
        code_hash: SHA-256 over the names and contents of its files.
        error: Why it cannot be used; None when ``plugin.toml`` is in order.
    """

    name: str
    version: str
    display_name: str
    scopes: tuple[str, ...]
    folder: Path
    code_hash: str
    error: str | None = None


def discover(roots: Iterable[Path]) -> list[PluginSource]:
    """Every plugin below the roots and every installed one, each name once; a clash is an error of the later one."""
    found: dict[str, PluginSource] = {}
    for folder in (*_folders(roots), *_installed()):
        source = read_source(folder)
        first = found.get(source.name)
        if first is None:
            found[source.name] = source
        elif first.folder.resolve() != source.folder.resolve():
            clash = f"{folder}: a plugin named {source.name!r} is already at {first.folder}. Rename one of them."
            # Under a name of its own: its verdict must not stand where that of the first does.
            name = f"{source.name} ({folder})"
            found[name] = _broken(folder, source.error or clash, name=name)
    return list(found.values())


def plugin_roots(home: Path, plugins_path: str) -> list[Path]:
    """The application's own ``plugins/`` and every path of ``PLUGINS_PATH``."""
    return [home / "plugins", *(Path(part) for part in plugins_path.split(os.pathsep) if part)]


def read_source(folder: Path) -> PluginSource:
    """Read a plugin's ``plugin.toml``; a fault becomes the source's ``error``, naming the field and the fix."""
    file = folder / "plugin.toml"
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
        fault = _fault(data)
        if fault:
            return _broken(folder, f"{file}: {fault}")
        hash_of_code = code_hash(folder)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        return _broken(folder, f"{file}: {error}")
    return PluginSource(
        name=data["name"],
        version=data["version"],
        display_name=data.get("display_name", data["name"]),
        scopes=tuple(data.get("scopes", ())),
        folder=folder,
        code_hash=hash_of_code,
    )


def code_hash(folder: Path) -> str:
    """SHA-256 over the plugin's files, in hex; caches of the interpreter do not count."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            content = path.read_bytes()
            digest.update(f"{path.relative_to(folder).as_posix()}\n{len(content)}\n".encode())
            digest.update(content)
    return digest.hexdigest()


def _folders(roots: Iterable[Path]) -> Iterator[Path]:
    for root in roots:
        if root.is_dir():
            yield from sorted(path for path in root.iterdir() if (path / "plugin.toml").is_file())


def _installed() -> Iterator[Path]:
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        spec = find_spec(entry_point.module.partition(".")[0])
        if spec is not None and spec.submodule_search_locations:
            base = Path(next(iter(spec.submodule_search_locations)))
            yield base.joinpath(*entry_point.module.split(".")[1:])


def _broken(folder: Path, error: str, *, name: str | None = None) -> PluginSource:
    return PluginSource(
        name=name or folder.name,
        version="",
        display_name=folder.name,
        scopes=(),
        folder=folder,
        code_hash="",
        error=error,
    )


def _fault(data: dict[str, object]) -> str | None:
    checks = (_unknown_field, _bad_name, _bad_version, _bad_display_name, _bad_sdk, _bad_scopes)
    return next((fault for check in checks if (fault := check(data))), None)


def _unknown_field(data: dict[str, object]) -> str | None:
    unknown = sorted(set(data) - _KNOWN_FIELDS)
    return f"unknown field {unknown[0]!r}; known are {', '.join(sorted(_KNOWN_FIELDS))}" if unknown else None


def _bad_name(data: dict[str, object]) -> str | None:
    name = data.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return 'name: write something like "acme-greeter" or "@acme/greeter", in lower case'
    return None


def _bad_version(data: dict[str, object]) -> str | None:
    version = data.get("version")
    try:
        Version(version if isinstance(version, str) else "")
    except InvalidVersion:
        return 'version: write something like "1.2.0", in quotes'
    return None


def _bad_display_name(data: dict[str, object]) -> str | None:
    display_name = data.get("display_name", "x")
    if not isinstance(display_name, str) or not display_name.strip() or not display_name.isprintable():
        return 'display_name: write a line of text like "Greeter"'
    return None


def _bad_sdk(data: dict[str, object]) -> str | None:
    try:
        supported = SpecifierSet(str(data.get("sdk", "")))
    except InvalidSpecifier:
        return 'sdk: write a range like ">=1,<2"'
    if "sdk" not in data or f"{SDK_VERSION}.0" not in supported:
        return f'sdk: this Latchflow offers SDK {SDK_VERSION}; write a range that holds it, like ">=1,<2"'
    return None


def _bad_scopes(data: dict[str, object]) -> str | None:
    scopes = data.get("scopes", [])
    if not isinstance(scopes, list):
        return 'scopes: write a list like ["email:send"]'
    unknown = [str(scope) for scope in scopes if not isinstance(scope, str) or scope not in SCOPES]
    return f"scopes: {unknown[0]!r} is none of {', '.join(sorted(SCOPES))}" if unknown else None

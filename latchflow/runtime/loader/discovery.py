"""Finding plugins and reading their ``plugin.toml``, without importing any of their code."""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import structlog

from latchflow.names import normal_form
from latchflow.runtime.loader.plugin_folder import FolderError, check_root, code_hash
from latchflow.runtime.loader.plugin_toml import TomlError, read_plugin_toml

log = structlog.get_logger(__name__)

ENTRY_POINT_GROUP = "latchflow.plugins"


@dataclass(frozen=True, kw_only=True)
class PluginSource:
    """A plugin as found on disk.

    Attributes:
        name: As in ``plugin.toml``; the folder's name when that cannot be read.
        code_hash: SHA-256 over the names and contents of its files.
        error: Why it cannot be used: the file, the field, the fix; None when the folder is in order.
        error_file: The file that `error` is about.
        error_field: The field of ``plugin.toml`` that `error` is about, if it is about one.
    """

    name: str
    version: str
    display_name: str
    scopes: tuple[str, ...]
    folder: Path
    code_hash: str
    error: str | None = None
    error_file: Path | None = None
    error_field: str | None = None


def discover(roots: Iterable[Path]) -> list[PluginSource]:
    """Every plugin below the roots and every installed one.

    A name belongs to the first plugin in order that has it; one whose name, or the form it takes in config keys, is
    taken has an error that names both.
    """
    folders: dict[Path, Path] = {}
    for folder in (*_folders(roots), *_installed()):
        folders.setdefault(folder.parent.resolve() / folder.name, folder)
    sources = [read_source(folder) for folder in folders.values()]
    owners: dict[str, PluginSource] = {}
    for source in sorted(sources, key=lambda source: source.error is not None):
        owners.setdefault(normal_form(source.name), source)
    return [_unless_clashing(source, owners[normal_form(source.name)]) for source in sources]


def plugin_roots(home: Path, plugins_path: str) -> list[Path]:
    """The application's own ``plugins/`` and every path of ``PLUGINS_PATH``."""
    return [home / "plugins", *(Path(part) for part in plugins_path.split(os.pathsep) if part)]


def read_source(folder: Path) -> PluginSource:
    """Read a plugin's folder; a fault becomes the source's ``error``, naming file, field and fix."""
    try:
        data = read_plugin_toml(folder / "plugin.toml")
    except TomlError as error:
        return _broken(folder, error, name=error.name, field=error.field)
    try:
        check_root(folder.parent)
        hash_of_code = code_hash(folder)
    except FolderError as error:
        return _broken(folder, error, name=data["name"])
    except OSError as error:
        message = f"it cannot be read: {error.strerror}"
        return _broken(folder, FolderError(Path(error.filename or folder), message), name=data["name"])
    return PluginSource(
        name=data["name"],
        version=data["version"],
        display_name=data.get("display_name", data["name"]),
        scopes=tuple(data.get("scopes", ())),
        folder=folder,
        code_hash=hash_of_code,
    )


def _folders(roots: Iterable[Path]) -> Iterator[Path]:
    for root in roots:
        try:
            if root.is_dir():
                yield from sorted(path for path in root.iterdir() if os.path.lexists(path / "plugin.toml"))
        except OSError as error:  # the plugins elsewhere are as good as ever
            log.error("a folder of plugins cannot be read", folder=str(root), reason=error.strerror)


def _installed() -> Iterator[Path]:
    for entry_point in entry_points(group=ENTRY_POINT_GROUP):
        try:
            spec = find_spec(entry_point.module.partition(".")[0])
        except Exception as error:  # one package that declares nonsense keeps no process from starting
            log.error("an installed plugin cannot be found", declared=entry_point.value, reason=str(error))
            continue
        if spec is not None and spec.submodule_search_locations:
            base = Path(next(iter(spec.submodule_search_locations)))
            yield base.joinpath(*entry_point.module.split(".")[1:])


def _unless_clashing(source: PluginSource, owner: PluginSource) -> PluginSource:
    if source is owner:
        return source
    file = source.folder / "plugin.toml"
    if source.name == owner.name:
        # Under a name of its own: its verdict must not stand where that of the first does.
        name, taken = f"{source.name} ({source.folder})", f"a plugin named {source.name!r} is already at"
    else:
        form = normal_form(source.name)
        name, taken = source.name, f"{source.name!r} and {owner.name!r} are both {form} in config keys; that one is at"
    clash = f"{file}: name: {taken} {owner.folder}. Rename one of them."
    if source.error:
        return replace(source, name=name)
    return replace(source, name=name, error=clash, error_file=file, error_field="name", code_hash="")


def _broken(
    folder: Path, error: TomlError | FolderError, *, name: str | None = None, field: str | None = None
) -> PluginSource:
    return PluginSource(
        name=name or folder.name,
        version="",
        display_name=folder.name,
        scopes=(),
        folder=folder,
        code_hash="",
        error=str(error),
        error_file=error.file,
        error_field=field,
    )

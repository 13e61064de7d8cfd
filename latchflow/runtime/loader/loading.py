"""Importing one plugin's package from the copy of its code, under a module name of its own, and putting it away."""

import importlib.util
import linecache
import sys
import threading
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from pathlib import Path
from types import CodeType, ModuleType

from latchflow.runtime.loader.discovery import PluginSource

_PREFIX = "lp_"

_originals: dict[str, tuple[Path, Path]] = {}
"""For a package that is loaded: the copy it is loaded from, and the folder that people know."""

_lock = threading.Lock()
_importing: set[str] = set()
"""Packages whose import has begun and not ended: one that outlasted its limit goes on in its thread."""


class LoadError(Exception):
    """A plugin's code could not be imported; the message names the file and the line."""


def load_package(source: PluginSource, copy: Path) -> ModuleType:
    """Import the plugin's package; imports inside it are relative.

    The module is named after the code's hash, so that two versions never share a name. Code objects, and with them
    every traceback, name the files in the plugin's own folder.

    Args:
        source: The plugin.
        copy: The copy of its code to import.

    Raises:
        LoadError: Importing raised anything at all, SystemExit included.
    """
    name = module_name(source.code_hash)
    with _lock:
        if name in _importing:
            raise LoadError(
                f"{source.folder / '__init__.py'}: an import of it that took too long goes on in this process. Make it "
                "quicker, and restart the process."
            )
        if name in sys.modules:
            return sys.modules[name]
        _importing.add(name)
    try:
        return _import(name, source, copy)
    finally:
        with _lock:
            _importing.discard(name)


def _import(name: str, source: PluginSource, copy: Path) -> ModuleType:
    file = copy / "__init__.py"
    if not file.is_file():
        raise LoadError(f"{source.folder / '__init__.py'}: it is missing; a plugin is a package that binds `plugin`")
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    _originals[name] = (copy, source.folder)
    spec = importlib.util.spec_from_file_location(
        name, file, loader=_Loader(name, str(file)), submodule_search_locations=[str(copy)]
    )
    if spec is None or spec.loader is None:
        raise LoadError(f"{source.folder / '__init__.py'}: it cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # a plugin may raise SystemExit at import; nothing of it may pass
        reason = _describe(error, source.folder).replace(str(copy), str(source.folder)).replace(name, source.name)
        del module, spec
        unload_package(source.code_hash)
        raise LoadError(reason) from None
    return module


def unload_package(code_hash: str) -> None:
    """Let go of everything that was imported for this version."""
    name = module_name(code_hash)
    for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
        del sys.modules[loaded]
    _, folder = _originals.pop(name, (None, None))
    for shown in [key for key in list(linecache.cache) if folder is not None and key.startswith(f"{folder}/")]:
        linecache.cache.pop(shown, None)


def module_name(code_hash: str) -> str:
    """The name a version's package is imported under."""
    return f"{_PREFIX}{code_hash[:16]}"


class _Loader(SourceFileLoader):
    """Compiles from the copy, in the name of the original; bytecode is never kept, so it can never be stale."""

    def get_code(self, fullname: str) -> CodeType | None:
        content = self.get_data(self.path)
        copy, original = _originals[fullname.partition(".")[0]]
        shown = original / Path(self.path).relative_to(copy)
        code: CodeType = compile(content, str(shown), "exec", dont_inherit=True)
        return code


class _Finder(MetaPathFinder):
    """Finds the modules inside a plugin's package, past the import system's caches of folders."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or fullname.partition(".")[0] not in _originals:
            return None
        for folder in path:
            # The interpreter calls compiled modules extensions.
            finder = FileFinder(folder, (ExtensionFileLoader, EXTENSION_SUFFIXES), (_Loader, SOURCE_SUFFIXES))
            if spec := finder.find_spec(fullname):
                return spec
        return None


_finder = _Finder()


def _describe(error: BaseException, folder: Path) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(f"{folder}/")]
    place = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    try:
        return f"{place}{type(error).__name__}: {error}"
    except Exception as second:  # __str__ is the plugin's code too
        return f"{place}{type(error).__name__} without a text: its __str__ raised {type(second).__name__}"

"""Importing one plugin's package from its folder, under a module name of its own."""

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType

from latchflow.runtime.discovery import PluginSource


class LoadError(Exception):
    """A plugin's code could not be imported; the message names the file and the line."""


def load_package(source: PluginSource) -> ModuleType:
    """Import the plugin's package; imports inside it are relative.

    The module is named after the code's hash, so that two versions never share a name.

    Raises:
        LoadError: Importing raised anything at all, SystemExit included.
    """
    name = f"lp_{source.code_hash[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    file = source.folder / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=[str(source.folder)])
    if spec is None or spec.loader is None or not file.is_file():
        raise LoadError(f"{file} is missing; a plugin is a package that binds `plugin`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # a plugin may raise SystemExit at import; nothing of it may pass
        for loaded in [key for key in sys.modules if key == name or key.startswith(f"{name}.")]:
            del sys.modules[loaded]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise LoadError(_describe(error, source.folder)) from error
    return module


def _describe(error: BaseException, folder: Path) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}: {error.msg}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(folder) in frame.filename]
    place = f"{frames[-1].filename}:{frames[-1].lineno}: " if frames else ""
    return f"{place}{type(error).__name__}: {error}"

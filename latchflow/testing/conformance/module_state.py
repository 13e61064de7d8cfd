"""Whether a plugin keeps something in its modules between calls, which other processes would not see."""

import itertools
import queue
import sys
from collections.abc import Iterator, Mapping, Sequence, Set
from types import ModuleType
from typing import Any

_DEPTH = 6
_ITEMS = 1000
_COUNTERS = (itertools.count, itertools.cycle)
_QUEUES = (queue.Queue,)
_PLAIN = (str, bytes, int, float, complex, bool, type(None))


def state_of(package: str) -> dict[str, str]:
    """A picture of everything mutable in a package's modules and classes, by its place."""
    return {name: _picture(value, _DEPTH) for name, value in _globals(package)}


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """The places that differ, leaving out what was imported in the meantime."""
    return [
        f"{name}: {picture[:80]} became {after.get(name, 'nothing')[:80]}"
        for name, picture in before.items()
        if picture != after.get(name)
    ]


def _globals(package: str) -> Iterator[tuple[str, Any]]:
    modules = [
        (name, module)
        for name, module in sorted(sys.modules.items())
        if name == package or name.startswith(f"{package}.")
    ]
    for module_name, module in modules:
        inside = module_name.removeprefix(package).lstrip(".") or "__init__"
        for name, value in vars(module).items():
            if name.startswith("__") or isinstance(value, ModuleType):
                continue
            yield f"{inside}.{name}", value
            if isinstance(value, type) and value.__module__ == module_name:
                yield from _attributes(f"{inside}.{name}", value)


def _attributes(where: str, owner: type) -> Iterator[tuple[str, Any]]:
    for name, value in vars(owner).items():
        if not name.startswith(("__", "_abc_", "model_")):
            yield f"{where}.{name}", value


def _picture(value: Any, depth: int) -> str:
    if isinstance(value, _PLAIN):
        return repr(value)[:_ITEMS]
    if depth == 0:
        return "…"
    picture = _picture_of_container(value, depth - 1)
    if picture is not None:
        return picture
    if isinstance(value, _COUNTERS) or hasattr(value, "cache_info"):
        return repr(value) if isinstance(value, _COUNTERS) else repr(value.cache_info())
    if isinstance(value, type) or callable(value):
        return str(getattr(value, "__qualname__", type(value).__name__))
    # An object: what its own class keeps in it, if that class is the plugin's.
    is_own = type(value).__module__.startswith("lp_")
    inside = _picture(_attributes_of(value), depth - 1) if is_own else ""
    return f"{type(value).__qualname__}({inside})"


def _picture_of_container(value: Any, depth: int) -> str | None:
    if isinstance(value, Mapping):
        parts = [f"{_picture(key, depth)}: {_picture(item, depth)}" for key, item in list(value.items())[:_ITEMS]]
        return f"{{{', '.join(parts)}}} ({len(value)})"
    if isinstance(value, _QUEUES):
        return _picture(list(value.queue), depth)
    if isinstance(value, Set):
        return f"{sorted(_picture(item, depth) for item in list(value)[:_ITEMS])} ({len(value)})"
    if isinstance(value, Sequence):
        return f"[{', '.join(_picture(item, depth) for item in value[:_ITEMS])}] ({len(value)})"
    return None


def _attributes_of(value: object) -> dict[str, Any]:
    slots = [name for owner in type(value).__mro__ for name in getattr(owner, "__slots__", ())]
    return {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})

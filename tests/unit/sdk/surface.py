"""The public surface of the SDK as text; ``python -m tests.unit.sdk.surface`` writes it down."""

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from latchflow import sdk

_MODULES = re.compile(r"\b(?:collections\.abc|datetime|latchflow\.sdk\.\w+|pydantic\.main|typing|uuid)\.(?=\w)")

SNAPSHOT = Path(__file__).with_name("surface.txt")


def surface() -> str:
    """Every public name with its fields, methods, types and defaults, one a line."""
    lines = [line for name in sorted(sdk.__all__) for line in _of(name, getattr(sdk, name))]
    return _MODULES.sub("", "\n".join(lines)) + "\n"


def _of(name: str, thing: Any) -> Iterator[str]:
    if not isinstance(thing, type):
        yield f"{name} = {list(get_args(thing)) or thing!r}"
        return
    bases = [base.__name__ for base in thing.__bases__ if base is not object]
    yield f"{name}({', '.join(bases)})" if bases else name
    if dataclasses.is_dataclass(thing):
        yield from (f"{name}.{_field(field)}" for field in dataclasses.fields(thing))
    else:
        if "__init__" in vars(thing) and "_no_init" not in str(vars(thing)["__init__"]):
            yield f"{name}{inspect.signature(thing)}"
        annotated = inspect.get_annotations(thing)
        yield from (
            f"{name}.{field}: {_type(annotation)}"
            for field, annotation in sorted(annotated.items())
            if not field.startswith("_")
        )
    yield from _methods(name, thing)


def _field(field: "dataclasses.Field[Any]") -> str:
    text = f"{field.name}: {_type(field.type)}"
    if field.default is not dataclasses.MISSING:
        text += f" = {field.default!r}"
    if field.default_factory is not dataclasses.MISSING:
        text += f" = {getattr(field.default_factory, '__name__', '?')}()"
    return text + ("" if field.repr else "  (not shown)")


def _methods(name: str, thing: type) -> Iterator[str]:
    for method, member in sorted(vars(thing).items()):
        if method.startswith("_") and method != "__call__":
            continue
        if isinstance(member, property):
            assert member.fget is not None
            yield f"{name}.{method}: {_type(inspect.signature(member.fget).return_annotation)}  (property)"
        elif inspect.isfunction(member):
            kind = "async " if inspect.iscoroutinefunction(member) else ""
            yield f"{name}.{kind}{method}{inspect.signature(member)}"


def _type(annotation: Any) -> str:
    return inspect.formatannotation(annotation)


if __name__ == "__main__":
    SNAPSHOT.write_text(surface(), encoding="utf-8")

"""Walking the JSON Schema of a config: which of its properties carry a mark, and which marks stand elsewhere."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

Schema = Mapping[str, Any]

_BRANCHES = ("allOf", "anyOf", "oneOf")
_LISTS = (*_BRANCHES, "prefixItems")
_MAPS = ("properties", "patternProperties", "dependentSchemas")
_SINGLE = (
    "additionalProperties",
    "unevaluatedProperties",
    "propertyNames",
    "items",
    "unevaluatedItems",
    "contains",
    "contentSchema",
    "if",
    "then",
    "else",
    "not",
)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A schema inside a schema.

    Attributes:
        word: The keyword that leads to it; of a property, ``properties``.
        name: The property's.
    """

    pointer: str
    schema: Schema
    word: str = ""
    name: str = ""


def marked_properties(schema: Schema, mark: str) -> frozenset[str]:
    """The properties of the top level that have `mark` set to true.

    The mark may stand in a branch, where Pydantic writes that of an optional field, or behind a reference.
    """
    return frozenset(
        part.name
        for top in _top(schema)
        for part in _below(top, schema)
        if part.word == "properties" and _has(mark, _same(part, schema))
    )


def misplaced(schema: Schema, mark: str) -> Iterator[str]:
    """JSON pointers to where `mark` is true anywhere else.

    Inside a property that has it, it says nothing new; in a definition that nobody refers to, it says nothing.
    """
    pending: list[_Part] = []
    for top in _top(schema):
        if top.schema.get(mark) is True:
            yield f"{top.pointer}/{mark}"
        for part in _below(top, schema):
            if part.word == "properties":
                same = _same(part, schema)
                inside = [] if _has(mark, same) else [below for place in same for below in _below(place, schema)]
                pending += [below for below in inside if below.word not in ("$ref", *_BRANCHES)]
            elif part.word != "$ref":
                pending.append(part)
    for part in _closure(pending, schema):
        if part.schema.get(mark) is True:
            yield f"{part.pointer}/{mark}"


def unresolved(schema: Schema) -> Iterator[str]:
    """JSON pointers to the references that do not lead to a place inside the schema by its pointer."""
    for part in _closure([_Part(pointer="", schema=schema)], schema):
        for word in ("$ref", "$dynamicRef"):
            if word in part.schema and (word == "$dynamicRef" or _target(part.schema, schema) is None):
                yield f"{part.pointer}/{word}"


def pointer_of(path: tuple[str | int, ...]) -> str:
    """A path as an RFC 6901 JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _top(schema: Schema) -> list[_Part]:
    """The top level: the schema, and the definition it refers to when its model refers to itself."""
    return _closure([_Part(pointer="", schema=schema)], schema, ("$ref",))


def _same(part: _Part, root: Schema) -> list[_Part]:
    """Every schema of the same value: the part, its branches, and what they refer to."""
    return _closure([part], root, ("$ref", *_BRANCHES))


def _has(mark: str, parts: list[_Part]) -> bool:
    return any(part.schema.get(mark) is True for part in parts)


def _closure(parts: list[_Part], root: Schema, words: tuple[str, ...] | None = None) -> list[_Part]:
    """The parts and all below them that the words lead to; without words, all."""
    found: dict[str, _Part] = {}
    pending = list(parts)
    while pending:
        part = pending.pop()
        if part.pointer not in found:
            found[part.pointer] = part
            pending += [below for below in _below(part, root) if words is None or below.word in words]
    return list(found.values())


def _below(part: _Part, root: Schema) -> Iterator[_Part]:
    target = _target(part.schema, root)
    if target is not None:
        yield target
    for word in _MAPS:
        for name, below in _mapping(part.schema.get(word)).items():
            yield from _part(f"{part.pointer}/{word}{pointer_of((name,))}", below, word, name)
    for word in _LISTS:
        for position, below in enumerate(part.schema.get(word, ())):
            yield from _part(f"{part.pointer}/{word}/{position}", below, word)
    for word in _SINGLE:
        yield from _part(f"{part.pointer}/{word}", part.schema.get(word), word)


def _part(pointer: str, schema: Any, word: str, name: str = "") -> Iterator[_Part]:
    if isinstance(schema, Mapping):  # true and false are schemas too, and hold nothing
        yield _Part(pointer=pointer, schema=schema, word=word, name=name)


def _target(schema: Schema, root: Schema) -> _Part | None:
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    pointer = unquote(reference[1:])
    found: Any = root
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, Mapping):
            found = found.get(name)
        else:
            return None
    return _Part(pointer=pointer, schema=found, word="$ref") if isinstance(found, Mapping) else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}

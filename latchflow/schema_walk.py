"""Walking a value beside the JSON Schema that describes it."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

_DEEPEST_REFERENCE = 32
_COMBINERS = ("allOf", "anyOf", "oneOf")
_CONDITIONS = ("if", "then", "else", "not")


@dataclass(frozen=True, kw_only=True)
class Place:
    """A part of a value and one schema that speaks about it.

    Attributes:
        path: Property names and list positions from the top.
    """

    path: tuple[str | int, ...]
    value: Any
    schema: Schema


def places(schema: Any, value: Any) -> Iterator[Place]:
    """Every part of a value with every schema that may apply to it.

    All branches of ``anyOf`` and its like are taken, whether they match or not: a secret marked in one branch
    stays secret whatever the config looks like. References are followed inside the schema only.
    """
    yield from _walk(schema, value, (), schema, 0)


def pointer_of(path: tuple[str | int, ...]) -> str:
    """A path as an RFC 6901 JSON pointer."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _walk(schema: Any, value: Any, path: tuple[str | int, ...], root: Any, depth: int) -> Iterator[Place]:
    if not isinstance(schema, Mapping) or depth > _DEEPEST_REFERENCE:
        return
    yield Place(path=path, value=value, schema=schema)
    for same in _schemas_of_the_same(schema, root):
        yield from _walk(same, value, path, root, depth + 1)
    if isinstance(value, Mapping):
        for name, part in value.items():
            for below in _schemas_of_property(schema, name):
                yield from _walk(below, part, (*path, name), root, 0)
    elif isinstance(value, list):
        first = schema.get("prefixItems", [])
        for index, part in enumerate(value):
            below = first[index] if index < len(first) else schema.get("items")
            yield from _walk(below, part, (*path, index), root, 0)


def _schemas_of_the_same(schema: Schema, root: Any) -> Iterator[Any]:
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference.startswith("#"):
        yield _resolve(root, reference[1:])
    for word in _COMBINERS:
        yield from schema.get(word, ())
    for word in _CONDITIONS:
        if word in schema:
            yield schema[word]
    yield from schema.get("dependentSchemas", {}).values()


def _schemas_of_property(schema: Schema, name: str) -> Iterator[Any]:
    own = schema.get("properties", {})
    matching = [below for pattern, below in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
    if name in own:
        yield own[name]
    yield from matching
    if name not in own and not matching:
        yield schema.get("additionalProperties")


def _resolve(root: Any, pointer: str) -> Any:
    found = root
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, Mapping):
            found = found.get(name)
        else:
            return None
    return found

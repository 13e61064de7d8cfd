from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from latchflow.schema_walk import marked_properties, misplaced, unresolved

MARK = {"writeOnly": True}


class Account(BaseModel):
    password: SecretStr


class Nested(BaseModel):
    account: Account | None = None
    accounts: list[Account] = []


class Whole(BaseModel):
    account: Account = Field(json_schema_extra={"writeOnly": True})


class Recursive(BaseModel):
    name: str = Field(json_schema_extra={"writeOnly": True})
    other: "Recursive | None" = None


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": MARK}},
        {"properties": {"a": {"anyOf": [{"type": "string", **MARK}, {"type": "null"}]}}},
        {"properties": {"a": {"allOf": [{"$ref": "#/$defs/x"}]}}, "$defs": {"x": {"oneOf": [MARK]}}},
        {"properties": {"a": {**MARK, "items": MARK}}},
        {"properties": {"a": MARK}, "default": {"writeOnly": True}, "examples": [MARK]},
        {"$ref": "#/$defs/c", "$defs": {"c": {"properties": {"a": MARK}}}},
        {"properties": {"a": {"$ref": "#/$defs/x%20y~1z"}}, "$defs": {"x y/z": MARK, "unused": {"items": MARK}}},
    ],
)
def test_a_mark_on_a_property_of_the_top_level_is_found(schema: dict[str, Any]) -> None:
    assert marked_properties(schema, "writeOnly") == {"a"}
    assert list(misplaced(schema, "writeOnly")) == []


def test_a_whole_model_may_be_a_secret() -> None:
    schema = Whole.model_json_schema()

    assert marked_properties(schema, "writeOnly") == {"account"}
    assert list(misplaced(schema, "writeOnly")) == []


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        (MARK, "/writeOnly"),
        ({"properties": {"a": {"properties": {"b": MARK}}}}, "/properties/a/properties/b/writeOnly"),
        ({"properties": {"a": {"items": MARK}}}, "/properties/a/items/writeOnly"),
        ({"properties": {"a": {"anyOf": [{"items": MARK}]}}}, "/properties/a/anyOf/0/items/writeOnly"),
        ({"properties": {"a": {"if": MARK}}}, "/properties/a/if/writeOnly"),
        ({"patternProperties": {"x/y": MARK}}, "/patternProperties/x~1y/writeOnly"),
        ({"additionalProperties": MARK}, "/additionalProperties/writeOnly"),
        ({"allOf": [{"then": {"properties": {"a": MARK}}}]}, "/allOf/0/then/properties/a/writeOnly"),
        ({"properties": {"a": MARK, "b": {"items": {"$ref": "#/properties/a"}}}}, "/properties/a/writeOnly"),
        (Nested.model_json_schema(), "/$defs/Account/properties/password/writeOnly"),
        (Recursive.model_json_schema(), "/$defs/Recursive/properties/name/writeOnly"),
    ],
)
def test_a_mark_anywhere_else_is_named(schema: dict[str, Any], pointer: str) -> None:
    assert list(misplaced(schema, "writeOnly")) == [pointer]


@pytest.mark.parametrize("reference", ["#/$defs/none", "#anchor", "other.json", "https://example.org/schema"])
def test_a_reference_that_leads_nowhere_is_named(reference: str) -> None:
    schema = {"properties": {"a": {"items": {"$ref": reference}}}}

    assert list(unresolved(schema)) == ["/properties/a/items/$ref"]


def test_a_schema_that_refers_to_itself_ends() -> None:
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#"}}}

    assert list(unresolved(loop)) == []
    assert marked_properties(loop, "writeOnly") == frozenset()

from typing import Any

import pytest
from pydantic import BaseModel, Field, SecretStr

from latchflow.config_schemas import (
    MASK,
    check_config,
    keep_secrets,
    mask_secrets,
    secret_names,
    secret_strings,
    templates,
)
from latchflow.errors import InvalidInputError


class Config(BaseModel):
    """As a plugin writes it: Pydantic puts the marks into branches and definitions."""

    user: str
    password: SecretStr
    token: SecretStr | None = None
    others: list[int] = []
    by_name: dict[str, str] = Field({}, json_schema_extra={"writeOnly": True})


SCHEMA = Config.model_json_schema()
CONFIG: dict[str, Any] = {"user": "u", "password": "p", "token": "t", "others": [1], "by_name": {"a/b": "r"}}


def test_secrets_are_masked_behind_choices_and_in_maps() -> None:
    assert mask_secrets(SCHEMA, CONFIG) == {
        "user": "u",
        "password": MASK,
        "token": MASK,
        "others": [1],
        "by_name": MASK,
    }
    assert secret_strings(SCHEMA, CONFIG) == ["p", "t", "r"]


def test_a_definition_that_is_referred_to_has_its_mark() -> None:
    schema = {"properties": {"key": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"anyOf": [{}, {"writeOnly": True}]}}}

    assert secret_names(schema) == {"key"}


def test_a_secret_of_any_type_is_masked_whole() -> None:
    schema = {"properties": {"headers": {"type": "object", "writeOnly": True, "additionalProperties": True}}}

    assert mask_secrets(schema, {"headers": {"x": "secret"}}) == {"headers": MASK}


def test_masks_keep_what_is_stored_and_nothing_else() -> None:
    masked = mask_secrets(SCHEMA, CONFIG)

    assert keep_secrets(SCHEMA, masked, CONFIG) == CONFIG
    with pytest.raises(InvalidInputError) as caught:
        keep_secrets(SCHEMA, masked, {"user": "u", "token": "t"})
    assert [fault.pointer for fault in caught.value.errors] == ["/config/password", "/config/by_name"]


def test_faults_quote_the_schema_and_never_the_config() -> None:
    config = {"user": 5, "password": ["hunter2"], "token": {"hunter2": 1}}

    with pytest.raises(InvalidInputError) as caught:
        check_config(SCHEMA, config)

    assert {fault.pointer for fault in caught.value.errors} == {
        "/config/user",
        "/config/password",
        "/config/token",
    }
    assert "hunter2" not in str(caught.value.errors)


def test_a_remote_reference_is_not_fetched() -> None:
    with pytest.raises(InvalidInputError) as caught:
        check_config({"$ref": "http://127.0.0.1:1/schema.json"}, {})

    assert caught.value.errors[0].pointer == "/capabilityId"


def test_a_schema_that_refers_to_itself_ends() -> None:
    loop = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#"}}}

    assert mask_secrets(loop, {"x": 1}) == {"x": 1}


def test_templates_are_found_at_the_marked_properties() -> None:
    schema = {"properties": {"values": {"x-latchflow-template": True, "additionalProperties": True}}}

    assert list(templates(schema, {"values": {"a": "1"}, "b": "2"})) == [("/config/values", {"a": "1"})]

from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from latchflow.config_schemas import MASK, check_config, keep_secrets, mask_secrets, templates
from latchflow.errors import InvalidInputError


class Account(BaseModel):
    user: str
    password: SecretStr


class Config(BaseModel):
    account: Account
    token: SecretStr | None = None
    others: list[Account] = []
    by_name: dict[str, SecretStr] = {}


SCHEMA = Config.model_json_schema()
CONFIG: dict[str, Any] = {
    "account": {"user": "u", "password": "p"},
    "token": "t",
    "others": [{"user": "v", "password": "q"}],
    "by_name": {"a/b": "r"},
}


def test_secrets_are_masked_behind_references_choices_lists_and_maps() -> None:
    assert mask_secrets(SCHEMA, CONFIG) == {
        "account": {"user": "u", "password": MASK},
        "token": MASK,
        "others": [{"user": "v", "password": MASK}],
        "by_name": {"a/b": MASK},
    }


def test_a_secret_of_any_type_is_masked_whole() -> None:
    schema = {"properties": {"headers": {"type": "object", "writeOnly": True, "additionalProperties": True}}}

    assert mask_secrets(schema, {"headers": {"x": "secret"}}) == {"headers": MASK}


def test_masks_keep_what_is_stored_but_not_inside_lists() -> None:
    masked = mask_secrets(SCHEMA, CONFIG)
    outside = {**masked, "others": []}

    assert keep_secrets(SCHEMA, outside, CONFIG) == {**CONFIG, "others": []}
    with pytest.raises(InvalidInputError) as caught:
        keep_secrets(SCHEMA, masked, CONFIG)
    assert [fault.pointer for fault in caught.value.errors] == ["/config/others/0/password"]


def test_faults_quote_the_schema_and_never_the_config() -> None:
    config = {"account": {"user": 5, "password": ["hunter2"]}, "token": {"hunter2": 1}}

    with pytest.raises(InvalidInputError) as caught:
        check_config(SCHEMA, config)

    assert {fault.pointer for fault in caught.value.errors} == {
        "/config/account/user",
        "/config/account/password",
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

from typing import Any

import pytest
from pydantic import BaseModel, SecretStr

from latchflow.runtime.contract import ContractError, contract_of
from latchflow.sdk import ActionCall, Plugin


class Account(BaseModel):
    password: SecretStr


class Config(BaseModel):
    account: Account


def contract_with(config_schema: Any) -> Any:
    plugin = Plugin()

    @plugin.action("call", display_name="Call", config_schema=config_schema)
    async def call(call: ActionCall[Any]) -> None:
        return

    return contract_of(plugin, scopes=())


@pytest.mark.parametrize(
    ("schema", "pointer"),
    [
        (Config, "/$defs/Account/properties/password/writeOnly"),
        ({"properties": {"a": {"items": {"writeOnly": True}}}}, "/properties/a/items/writeOnly"),
        ({"additionalProperties": {"x-latchflow-template": True}}, "/additionalProperties/x-latchflow-template"),
    ],
)
def test_a_mark_below_the_top_level_is_refused_with_its_place_and_the_fix(schema: Any, pointer: str) -> None:
    with pytest.raises(ContractError) as caught:
        contract_with(schema)

    assert f"action 'call': config_schema{pointer}: " in str(caught.value)
    assert "move the mark to the property of the top level" in str(caught.value)


def test_a_reference_out_of_the_schema_is_refused() -> None:
    with pytest.raises(ContractError, match=r"config_schema/properties/a/\$ref: .*pointer"):
        contract_with({"properties": {"a": {"$ref": "https://example.org/schema.json"}}})


def test_a_mark_on_a_property_is_taken() -> None:
    contract_with({"properties": {"a": {"type": "object", "writeOnly": True}, "b": {"x-latchflow-template": True}}})

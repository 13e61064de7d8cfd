"""Which variables of the environment may stand in for a property that admins see."""

import pytest

from latchflow.runtime.contract import ContractError
from latchflow.runtime.contract.providers import provider_contract
from latchflow.sdk import ProviderDeclaration


class _Post:
    def __init__(self, setup: object) -> None: ...

    async def send(self, details: object) -> None: ...


def _declared(variable: str) -> ProviderDeclaration:
    schema = {"type": "object", "properties": {"url": {"type": "string"}}}
    return ProviderDeclaration(
        kind="email", id="post", display_name="Post", provider=_Post, config_schema=schema, defaults={"url": variable}
    )


@pytest.mark.parametrize("variable", ["POST_PASSWD", "POST_PWD", "POST_CREDENTIAL", "POST_DSN", "KEY", "POST_KEY_ID"])
def test_a_variable_that_reads_as_a_secret_is_none_for_a_property_that_is_shown(variable: str) -> None:
    with pytest.raises(ContractError, match="reads as a secret"):
        provider_contract(_declared(variable))


@pytest.mark.parametrize("variable", ["KEYCLOAK_URL", "POST_MONKEY", "POST_TOKENIZER"])
def test_a_word_that_only_holds_such_a_word_is_free(variable: str) -> None:
    assert provider_contract(_declared(variable)).defaults == {"url": variable}

"""No secret of a config in what people read, nor in the config an action gets."""

import base64
from collections.abc import Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NoReturn

import pytest
from pydantic import BaseModel, Field, SecretStr

from latchflow.runtime.invoking.invoker import Success
from latchflow.sdk import (
    ActionCall,
    ActionResult,
    PermanentFailure,
    Retry,
    RetryAfter,
    ServiceError,
)
from tests.unit.runtime.invoking import SECRET, Run, failed


@pytest.mark.parametrize("encode", [str, lambda s: base64.b64encode(s.encode()).decode()])
@pytest.mark.parametrize(
    "raise_or_return",
    [
        ValueError,
        lambda text: Retry(reason=text),
        lambda text: PermanentFailure(text, error_type=text),
        lambda text: ServiceError("fatal", text),
        lambda text: ActionResult(retry=RetryAfter(after=timedelta(0), reason=text)),
    ],
    ids=["error", "retry", "permanent", "service", "result"],
)
async def test_a_secret_never_shows_in_how_an_attempt_failed(
    run: Run, raise_or_return: Callable[[str], Any], encode: Callable[[str], str]
) -> None:
    async def action(call: ActionCall[Any]) -> Any:
        answer = raise_or_return(f"401 for {encode(call.secrets['apiKey'])}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    result = failed(await run(action))

    assert encode(SECRET) not in repr(result)
    assert "401 for [secret]" in result.message


async def test_a_string_inside_a_secret_is_masked_too(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> NoReturn:
        raise ValueError(call.secrets["login"]["password"])

    result = failed(await run(action, config={"login": {"user": "ada", "password": SECRET}}))

    assert result.message == "[secret]"


async def test_what_no_store_can_hold_is_replaced_in_a_message(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> NoReturn:
        raise ValueError("bad byte \x00 and half a pair \ud83d")

    assert failed(await run(action)).message == "bad byte \ufffd and half a pair \ufffd"


async def test_secrets_come_apart_from_the_config(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> dict[str, Any]:
        assert isinstance(call.config, MappingProxyType)
        return {"config": dict(call.config), "secrets": dict(call.secrets)}

    result = await run(action, config={"url": "https://example.org", "apiKey": SECRET})

    assert isinstance(result, Success)
    assert result.output == {"config": {"url": "https://example.org"}, "secrets": {"apiKey": SECRET}}


class _Config(BaseModel):
    url: str = "https://example.org"
    plain: SecretStr = SecretStr("")
    optional: SecretStr | None = None
    aliased: SecretStr | None = Field(None, alias="aliasedKey")
    read_under: str = Field("", validation_alias="readUnder", json_schema_extra={"writeOnly": True})


async def test_no_secret_of_a_model_stays_in_the_model(run: Run) -> None:
    async def action(call: ActionCall[_Config]) -> Any:
        fields = [call.config.plain, call.config.optional, call.config.aliased, call.config.read_under]
        return {"secrets": dict(call.secrets), "empty": [field is None for field in fields]}

    secrets = {"plain": "secret-1", "optional": "secret-2", "aliasedKey": "secret-3", "readUnder": "secret-4"}
    result = await run(action, schema=_Config, config=secrets)

    assert isinstance(result, Success)
    assert result.output == {"secrets": secrets, "empty": [True] * 4}


async def test_a_config_that_no_longer_fits_its_model_fails_for_good_and_names_the_field(run: Run) -> None:
    async def action(call: ActionCall[_Config]) -> None: ...

    result = failed(await run(action, schema=_Config, config={"url": {"secret": SECRET}}))

    assert (result.error_type, result.is_retryable) == ("InvalidConfig", False)
    assert "url" in result.message
    assert SECRET not in result.message

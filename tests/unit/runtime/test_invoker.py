"""Every way an action can end, as plugin code can bring it about."""

import asyncio
import base64
import math
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from types import MappingProxyType
from typing import Any, NoReturn
from uuid import UUID

import pytest
from pydantic import BaseModel, Field, SecretStr

from latchflow.runtime.guard import Backends, Grant, GuardedServices, ServiceCall
from latchflow.runtime.invoker import MAX_OUTPUT_BYTES, Call, Failure, Success, invoke
from latchflow.runtime.registry import LoadedAction, Registry
from latchflow.sdk import (
    ActionCall,
    ActionResult,
    EmailMessage,
    HttpRequest,
    HttpResponse,
    Invocation,
    PermanentFailure,
    Plugin,
    Retry,
    RetryAfter,
    SendResult,
    ServiceError,
    ServiceErrorKind,
)
from tests.support.registries import NAME, registry_of

_ID = UUID("00000000-0000-4000-8000-000000000001")
_SECRET = "hunter2-hunter2"
_SCHEMA = {
    "type": "object",
    "properties": {
        "url": {"type": "string"},
        "apiKey": {"type": "string", "writeOnly": True},
        "login": {"type": "object", "properties": {"password": {"type": "string", "writeOnly": True}}},
    },
}

Run = Callable[..., Awaitable[Success | Failure]]


class _Unused:
    async def send(self, message: EmailMessage, *, idempotency_key: str) -> SendResult:
        raise AssertionError("nobody sends here")

    async def request(self, request: HttpRequest) -> HttpResponse:
        raise AssertionError("nobody sends here")


def _call(config: dict[str, Any], timeout_seconds: float) -> Call:
    async def record(call: ServiceCall) -> None:
        raise AssertionError("nobody calls a service here")

    grant = Grant(
        granted_scopes=frozenset(),
        capability_scopes=frozenset(),
        idempotency_key="key",
        record=record,
        host_loop=asyncio.get_running_loop(),
    )
    return Call(
        config=config,
        payload={"name": "Ada"},
        is_payload_from_input=True,
        invocation=Invocation(id=_ID, attempt=1, event_id=_ID, trigger_id=_ID, pipeline_id=_ID, step_name="greet"),
        services=GuardedServices(Backends(email=_Unused(), http=_Unused()), grant),
        idempotency_key="key",
        timeout_seconds=timeout_seconds,
        heartbeat=lambda progress: None,
    )


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    """Invoke a function as an action."""
    registries: list[Registry] = []

    async def call(
        function: Callable[[ActionCall[Any]], Any],
        *,
        config: dict[str, Any] | None = None,
        schema: Any = _SCHEMA,
        timeout_seconds: float = 5.0,
    ) -> Success | Failure:
        plugin = Plugin()
        plugin.action("do", display_name="Do", config_schema=schema)(function)
        registry = registry_of(plugin)
        registries.append(registry)
        action: LoadedAction = registry.actions[NAME, "do"]
        return await invoke(action, _call(config if config is not None else {"apiKey": _SECRET}, timeout_seconds))

    yield call
    for registry in registries:
        registry.close()


def failed(result: Success | Failure) -> Failure:
    assert isinstance(result, Failure)
    return result


async def test_what_an_async_action_returns_is_its_output(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> dict[str, Any]:
        return {"hello": call.payload["name"], "thread": threading.current_thread().name}

    result = await run(action)

    assert isinstance(result, Success)
    assert result.output == {"hello": "Ada", "thread": f"plugin {NAME}"}


async def test_a_plain_function_runs_in_a_thread_of_its_plugin(run: Run) -> None:
    def action(call: ActionCall[Any]) -> str:
        return threading.current_thread().name

    result = await run(action)

    assert isinstance(result, Success)
    assert str(result.output).startswith(f"plugin {NAME}_")


async def test_an_output_is_kept_as_the_json_it_will_be_read_as(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> Any:
        return ActionResult(output={1: ("a", None), "ü": "\x00"})

    result = await run(action)

    assert isinstance(result, Success)
    assert result.output == {"1": ["a", None], "ü": "\x00"}


@pytest.mark.parametrize(
    ("raised", "failure"),
    [
        (
            Retry(after=timedelta(seconds=7), reason="rate limited"),
            Failure(error_type="Retry", message="rate limited", is_retryable=True, retry_after=timedelta(seconds=7)),
        ),
        (Retry(reason="later"), Failure(error_type="Retry", message="later", is_retryable=True)),
        (
            PermanentFailure("no such recipient", error_type="unknown_recipient"),
            Failure(error_type="unknown_recipient", message="no such recipient", is_retryable=False),
        ),
        (ValueError("oops"), Failure(error_type="ValueError", message="oops", is_retryable=True)),
        (TimeoutError("mine"), Failure(error_type="TimeoutError", message="mine", is_retryable=True)),
        (SystemExit(3), Failure(error_type="SystemExit", message="3", is_retryable=True)),
        (KeyboardInterrupt(), Failure(error_type="KeyboardInterrupt", message="", is_retryable=True)),
        (
            GeneratorExit(),
            Failure(error_type="RuntimeError", message="the function raised GeneratorExit", is_retryable=True),
        ),
        (asyncio.CancelledError(), Failure(error_type="CancelledError", message="", is_retryable=True)),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_what_an_async_action_raises_decides_how_its_attempt_ends(
    run: Run, raised: BaseException, failure: Failure
) -> None:
    async def action(call: ActionCall[Any]) -> NoReturn:
        raise raised

    assert await run(action) == failure


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), StopIteration(), GeneratorExit()])
async def test_nothing_a_plain_function_raises_is_lost(run: Run, raised: BaseException) -> None:
    def action(call: ActionCall[Any]) -> NoReturn:
        raise raised

    result = failed(await run(action, timeout_seconds=2))

    assert result.is_retryable
    assert not result.is_timeout


async def test_a_plugin_that_exits_in_one_call_goes_on_answering_the_others() -> None:
    plugin = Plugin()
    entered, release = asyncio.Event(), threading.Event()
    host = asyncio.get_running_loop()

    @plugin.action("exit", display_name="Exit", config_schema={})
    async def leave(call: ActionCall[Any]) -> None:
        sys.exit(1)

    @plugin.action("wait", display_name="Wait", config_schema={})
    async def wait(call: ActionCall[Any]) -> str:
        host.call_soon_threadsafe(entered.set)
        while not release.is_set():
            await asyncio.sleep(0.001)
        return "done"

    registry = registry_of(plugin)
    waiting = asyncio.create_task(invoke(registry.actions[NAME, "wait"], _call({}, 5)))
    await entered.wait()

    assert failed(await invoke(registry.actions[NAME, "exit"], _call({}, 5))).error_type == "SystemExit"
    release.set()
    assert await waiting == Success(output="done", output_json=b'"done"')
    assert isinstance(await invoke(registry.actions[NAME, "wait"], _call({}, 5)), Success)
    registry.close()


@pytest.mark.parametrize(
    ("kind", "is_retryable"),
    [
        ("validation", False),
        ("denied", False),
        ("not_found", False),
        ("rate_limited", True),
        ("retryable", True),
        ("fatal", False),
        ("outcome_unknown", False),
    ],
)
async def test_an_uncaught_service_error_is_retried_by_its_kind(
    run: Run, kind: ServiceErrorKind, is_retryable: bool
) -> None:
    async def action(call: ActionCall[Any]) -> NoReturn:
        raise ServiceError(kind, "the service said no", retry_after=timedelta(seconds=9))

    result = failed(await run(action))

    assert (result.error_type, result.is_retryable) == (kind, is_retryable)
    assert result.retry_after == timedelta(seconds=9)


async def test_a_result_may_ask_for_a_retry_and_its_output_is_dropped(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> ActionResult:
        return ActionResult(output="half", retry=RetryAfter(after=timedelta(seconds=1), reason="not ready"))

    result = failed(await run(action))

    assert (result.message, result.retry_after, result.is_retryable) == ("not ready", timedelta(seconds=1), True)


@pytest.mark.parametrize(
    "raised",
    [Retry(after=5, reason="soon"), Retry(after=timedelta(0), reason=None), PermanentFailure(ValueError("x"))],  # type: ignore[arg-type]
)
async def test_a_wrong_type_in_a_plugins_own_error_still_gives_its_attempt_an_ending(
    run: Run, raised: Exception
) -> None:
    async def action(call: ActionCall[Any]) -> NoReturn:
        raise raised

    result = failed(await run(action))

    assert isinstance(result.message, str)
    assert result.retry_after is None or isinstance(result.retry_after, timedelta)


async def test_an_error_without_a_readable_text_still_gives_its_attempt_an_ending(run: Run) -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def action(call: ActionCall[Any]) -> NoReturn:
        raise MuteError

    assert failed(await run(action)).error_type == "MuteError"


async def test_an_action_that_takes_too_long_is_cancelled_and_timed_out(run: Run) -> None:
    cancelled = threading.Event()

    async def action(call: ActionCall[Any]) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    result = failed(await run(action, timeout_seconds=0.05))

    assert result.is_timeout
    assert result.message == "No answer within 0.05 s."
    assert await asyncio.to_thread(cancelled.wait, 2)


async def test_a_plain_function_that_takes_too_long_does_not_hold_the_attempt(run: Run) -> None:
    release = threading.Event()

    def action(call: ActionCall[Any]) -> None:
        release.wait(10)

    started = time.monotonic()
    result = failed(await run(action, timeout_seconds=0.05))
    release.set()

    assert result.is_timeout
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("output", [object(), {1, 2}, b"bytes", math.nan, {"a": math.inf}, "\ud800", {("a",): 1}])
async def test_an_output_that_is_no_json_fails_for_good_and_says_so(run: Run, output: object) -> None:
    async def action(call: ActionCall[Any]) -> Any:
        return output

    result = failed(await run(action))

    assert result.error_type == "OutputNotSerialisable"
    assert not result.is_retryable


async def test_an_endless_output_fails_for_good(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> Any:
        loop: list[Any] = []
        loop.append(loop)
        return loop

    assert failed(await run(action)).error_type == "OutputNotSerialisable"


async def test_an_output_over_four_mebibytes_fails_for_good(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> str:
        return "x" * MAX_OUTPUT_BYTES

    result = failed(await run(action))

    assert result.error_type == "OutputTooLarge"
    assert not result.is_retryable


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

    assert encode(_SECRET) not in repr(result)
    assert "401 for [secret]" in result.message


async def test_a_secret_below_the_top_level_is_masked_too(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> NoReturn:
        raise ValueError(call.config["login"]["password"])

    result = failed(await run(action, config={"login": {"user": "ada", "password": _SECRET}}))

    assert result.message == "[secret]"


async def test_what_no_store_can_hold_is_replaced_in_a_message(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> NoReturn:
        raise ValueError("bad byte \x00 and half a pair \ud83d")

    assert failed(await run(action)).message == "bad byte \ufffd and half a pair \ufffd"


async def test_secrets_come_apart_from_the_config(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> dict[str, Any]:
        assert isinstance(call.config, MappingProxyType)
        return {"config": dict(call.config), "secrets": dict(call.secrets)}

    result = await run(action, config={"url": "https://example.org", "apiKey": _SECRET})

    assert isinstance(result, Success)
    assert result.output == {"config": {"url": "https://example.org"}, "secrets": {"apiKey": _SECRET}}


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

    result = failed(await run(action, schema=_Config, config={"url": {"secret": _SECRET}}))

    assert (result.error_type, result.is_retryable) == ("InvalidConfig", False)
    assert "url" in result.message
    assert _SECRET not in result.message


async def test_cancelling_an_invocation_cancels_the_action_and_is_not_swallowed(run: Run) -> None:
    entered, cancelled = asyncio.Event(), threading.Event()
    host = asyncio.get_running_loop()

    async def action(call: ActionCall[Any]) -> None:
        host.call_soon_threadsafe(entered.set)
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    running = asyncio.ensure_future(run(action))
    await entered.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert await asyncio.to_thread(cancelled.wait, 2)

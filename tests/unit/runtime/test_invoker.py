"""Every way an action can end, as plugin code can bring it about."""

import asyncio
import math
import sys
import threading
import time
from datetime import timedelta
from typing import Any, NoReturn

import pytest

from latchflow.nesting import MAX_DEPTH
from latchflow.runtime.invoking.answers import MAX_OUTPUT_BYTES
from latchflow.runtime.invoking.invoker import CLEAN_UP_SECONDS, Failure, Success, invoke
from latchflow.sdk import (
    ActionCall,
    ActionResult,
    PermanentFailure,
    Plugin,
    Retry,
    RetryAfter,
    ServiceError,
    ServiceErrorKind,
)
from tests.support.registries import NAME, registry_of
from tests.unit.runtime.invoking import Run, call_of, failed


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
    waiting = asyncio.create_task(invoke(registry.actions[NAME, "wait"], call_of({}, 5)))
    await entered.wait()

    assert failed(await invoke(registry.actions[NAME, "exit"], call_of({}, 5))).error_type == "SystemExit"
    release.set()
    assert await waiting == Success(output="done", output_json=b'"done"')
    assert isinstance(await invoke(registry.actions[NAME, "wait"], call_of({}, 5)), Success)
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
    assert time.monotonic() - started < CLEAN_UP_SECONDS + 2


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


@pytest.mark.parametrize("depth", [100, 300, 100_000])
async def test_an_output_that_is_nested_too_deeply_fails_for_good(run: Run, depth: int) -> None:
    async def action(call: ActionCall[Any]) -> Any:
        output: Any = 1
        for _ in range(depth):
            output = {"a": output} if depth % 3 else [output]
        return output

    result = await run(action)

    if depth <= MAX_DEPTH:
        assert isinstance(result, Success)
    else:
        assert failed(result).error_type == "OutputNotSerialisable"
        assert not failed(result).is_retryable


async def test_an_output_over_four_mebibytes_fails_for_good(run: Run) -> None:
    async def action(call: ActionCall[Any]) -> str:
        return "x" * MAX_OUTPUT_BYTES

    result = failed(await run(action))

    assert result.error_type == "OutputTooLarge"
    assert not result.is_retryable


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

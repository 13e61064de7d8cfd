"""Calling an action once: its config and secrets, its time limit, and what its answer means."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from latchflow.config_schemas import secret_strings
from latchflow.masking import Masker, readable
from latchflow.runtime.configs import ConfigError, config_of, secrets_of
from latchflow.runtime.loops import is_being_cancelled
from latchflow.runtime.plugin_log import plugin_logger
from latchflow.runtime.registry import LoadedAction
from latchflow.sdk import ActionCall, ActionResult, Invocation, PermanentFailure, Retry, ServiceError, Services

MAX_OUTPUT_BYTES = 4 * 1024 * 1024
_MAX_MESSAGE = 2000
_MAX_ERROR_TYPE = 200


@dataclass(frozen=True, kw_only=True)
class Call:
    """One attempt to make.

    Attributes:
        config: The definition's whole config, opened; expressions in it already evaluated.
        services: Guarded for this call.
    """

    config: Mapping[str, Any]
    payload: Mapping[str, Any]
    is_payload_from_input: bool
    invocation: Invocation
    services: Services
    idempotency_key: str
    timeout_seconds: float
    deadline: datetime
    heartbeat: Callable[[Any], None]


@dataclass(frozen=True, kw_only=True)
class Success:
    """The action returned.

    Attributes:
        output_json: The output as JSON bytes.
    """

    output: Any
    output_json: bytes


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The action failed, or asked for another attempt.

    Attributes:
        message: With the secrets of the config masked.
        retry_after: The wait the action asked for.
    """

    error_type: str
    message: str
    is_retryable: bool
    is_timeout: bool = False
    retry_after: timedelta | None = None


async def invoke(action: LoadedAction, call: Call) -> Success | Failure:
    """Run the action on its plugin's loop and say what came of it; never raises but for cancellation."""
    secrets = secrets_of(action, call.config)
    masker = Masker(secret_strings(action.schema, call.config))
    limit = asyncio.timeout(call.timeout_seconds)
    try:
        details = ActionCall(
            config=config_of(action, call.config),
            secrets=MappingProxyType(secrets),
            payload=MappingProxyType(dict(call.payload)),
            is_payload_from_input=call.is_payload_from_input,
            invocation=call.invocation,
            services=call.services,
            logger=plugin_logger(
                masker,
                plugin=action.plugin.name,
                event_id=str(call.invocation.event_id),
                invocation_id=str(call.invocation.id),
                attempt=call.invocation.attempt,
            ),
            idempotency_key=call.idempotency_key,
            heartbeat=call.heartbeat,
            deadline=call.deadline,
            wait=action.plugin.loop.wait,
        )
        async with limit:
            answer = await action.plugin.loop.call(action.execute, details)
        result = _result(answer)
    except BaseException as error:  # a plugin may raise anything, SystemExit too; the worker must live on
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            raise
        result = _failure(error, timed_out=limit.expired(), call=call)
    return result if isinstance(result, Success) else _shown(result, masker)


def _result(answer: Any) -> Success | Failure:
    result = answer if isinstance(answer, ActionResult) else ActionResult(output=answer)
    if result.retry is not None:
        return _retry(result.retry.reason, result.retry.after)
    try:
        output_json = json.dumps(result.output, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"The output cannot be written as JSON: {error}. Return plain data."
        return Failure(error_type="OutputNotSerialisable", message=message, is_retryable=False)
    if len(output_json) > MAX_OUTPUT_BYTES:
        message = f"The output has {len(output_json)} bytes; at most {MAX_OUTPUT_BYTES} are kept."
        return Failure(error_type="OutputTooLarge", message=message, is_retryable=False)
    return Success(output=json.loads(output_json), output_json=output_json)


def _failure(error: BaseException, *, timed_out: bool, call: Call) -> Failure:
    if timed_out:
        message = f"No answer within {call.timeout_seconds:g} s."
        return Failure(error_type="TimedOut", message=message, is_retryable=True, is_timeout=True)
    if isinstance(error, Retry):
        return _retry(error.reason, error.after)
    if isinstance(error, ConfigError):
        return Failure(error_type="InvalidConfig", message=str(error), is_retryable=False)
    if isinstance(error, PermanentFailure):
        return Failure(error_type=_text(error.error_type), message=_text(error.reason), is_retryable=False)
    if isinstance(error, ServiceError):
        return Failure(
            error_type=error.kind,
            message=_text(error),
            is_retryable=error.is_retryable,
            retry_after=error.retry_after,
        )
    return Failure(error_type=type(error).__name__, message=_text(error), is_retryable=True)


def _retry(reason: object, after: object) -> Failure:
    if after is not None and not isinstance(after, timedelta):
        message = f"A retry was asked for after {_text(after)!r}, which is no timedelta. Correct the plugin."
        return Failure(error_type="InvalidRetry", message=message, is_retryable=True)
    return Failure(error_type="Retry", message=_text(reason), is_retryable=True, retry_after=after)


def _text(value: object) -> str:
    try:
        return str(value)
    except Exception as error:  # __str__ is the plugin's code too
        return f"({type(value).__name__} without a text: its __str__ raised {type(error).__name__})"


def _shown(failure: Failure, masker: Masker) -> Failure:
    """The failure as people may read it and every store can hold it."""
    return replace(
        failure,
        error_type=readable(masker.text(failure.error_type))[:_MAX_ERROR_TYPE],
        message=readable(masker.text(failure.message))[:_MAX_MESSAGE],
    )

"""Calling an action once: its config and secrets, its time limits, and what came of it."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from latchflow.masking import Masker, strings_in
from latchflow.runtime.invoking.answers import (
    Failure,
    NoResumeError,
    Result,
    Success,
    Waiting,
    failure_of,
    result_of,
    shown,
)
from latchflow.runtime.invoking.configs import config_of, secrets_of
from latchflow.runtime.invoking.plugin_log import plugin_logger
from latchflow.runtime.isolation.loops import PluginBlockedError, PluginClosedError, Waiter, is_being_cancelled
from latchflow.runtime.isolation.stalls import Stall
from latchflow.runtime.lifecycle.registry import LoadedAction
from latchflow.sdk import ActionCall, Callback, Invocation, ServiceError, Services

CLEAN_UP_SECONDS = 2.0
"""What a plugin that was cancelled has to clean up, with its services. Its attempt ends after that."""

__all__ = ["Call", "Failure", "Result", "Resumption", "Success", "Waiting", "invoke"]


@dataclass(frozen=True, kw_only=True)
class Resumption:
    """What an earlier attempt left when it answered `latchflow.sdk.Pending`.

    Attributes:
        callback: What was sent to its callback address since.
    """

    state: Any
    callback: Callback | None = None


async def no_callback_url() -> str:
    """Stands for `latchflow.sdk.ActionCall.callback_url` where nobody could be called back."""
    raise ServiceError("fatal", "There are no callback addresses here.")


@dataclass(frozen=True, kw_only=True)
class Call:
    """One attempt to make.

    Attributes:
        config: The definition's whole config, opened; expressions in it already evaluated.
        services: Guarded for this call.
        callback_url: Makes an address under which the invocation is called back; guarded for this call.
        resumption: Set, it calls the action's ``resume`` instead of ``execute``.
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
    callback_url: Callable[[], Coroutine[Any, Any, str]] = no_callback_url
    resumption: Resumption | None = None


async def invoke(action: LoadedAction, call: Call) -> Result:
    """Run the action on its plugin's loop or in a thread, and say what came of it; never raises but for cancellation.

    When its time is up, or the caller is cancelled, the plugin gets `CLEAN_UP_SECONDS` more; what it returns then does
    not count. So another attempt begins after it, unless it ignores its end.

    All that is the plugin's runs there: its function, the validators of its config's model, the texts of its errors.
    """
    secrets = secrets_of(action, call.config)
    masker = Masker(strings_in(list(secrets.values())))
    limit = asyncio.timeout(call.timeout_seconds)
    stall = Stall(action.capability.stall_timeout_seconds, call.heartbeat)
    wait = Waiter(action.plugin.loop)
    attempt = _Attempt(action, call, masker, heartbeat=stall.heartbeat, wait=wait)
    try:
        async with limit, stall:
            result: Result = await action.plugin.loop.call(
                attempt.run, capability=action.key, grace_seconds=CLEAN_UP_SECONDS, wait=wait
            )
    except TimeoutError:
        if limit.expired():
            return _timeout("TimedOut", f"No answer within {call.timeout_seconds:g} s.")
        seconds = action.capability.stall_timeout_seconds
        return _timeout("Stalled", f"No progress was reported for {seconds:g} s.")
    except asyncio.CancelledError as error:
        if is_being_cancelled():
            raise
        return failure_of(error, masker)  # the plugin's loop was closed under it
    except Exception as error:
        return _of_core(error, masker)
    finally:
        wait.end()
    return result


class _Attempt:
    """One attempt, as it runs among the plugin's own code."""

    def __init__(
        self, action: LoadedAction, call: Call, masker: Masker, *, heartbeat: Callable[[Any], None], wait: Waiter
    ) -> None:
        self._action = action
        self._call = call
        self._masker = masker
        self._heartbeat = heartbeat
        self._wait = wait
        function = action.execute if call.resumption is None else action.resume
        self.run = self._on_loop if inspect.iscoroutinefunction(function) else self._in_thread

    async def _on_loop(self) -> Result:
        try:
            return await self._awaited(self._started())
        except BaseException as error:
            return self._failure(error)

    def _in_thread(self) -> Any:
        """The result, or an awaitable of it."""
        try:
            answer = self._started()
            return self._awaited(answer) if inspect.isawaitable(answer) else self._result(answer)
        except BaseException as error:
            return self._failure(error)

    async def _awaited(self, answer: Awaitable[Any]) -> Result:
        try:
            return self._result(await answer)
        except BaseException as error:  # a plugin may raise anything, SystemExit too; the worker must live on
            if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
                raise
            return self._failure(error)

    def _started(self) -> Any:
        resumption = self._call.resumption
        if resumption is None:
            return self._action.execute(self._details())
        if self._action.resume is None:
            raise NoResumeError
        return self._action.resume(self._details(), resumption.state)

    def _result(self, answer: Any) -> Result:
        return result_of(answer, self._masker, can_resume=self._action.resume is not None)

    def _failure(self, error: BaseException) -> Failure:
        return failure_of(error, self._masker)

    def _details(self) -> ActionCall[Any]:
        action, call = self._action, self._call
        return ActionCall(
            config=config_of(action, call.config),
            secrets=MappingProxyType(secrets_of(action, call.config)),
            payload=MappingProxyType(dict(call.payload)),
            is_payload_from_input=call.is_payload_from_input,
            invocation=call.invocation,
            services=call.services,
            logger=plugin_logger(
                self._masker,
                plugin=action.plugin.name,
                event_id=str(call.invocation.event_id),
                invocation_id=str(call.invocation.id),
                attempt=call.invocation.attempt,
            ),
            idempotency_key=call.idempotency_key,
            heartbeat=self._heartbeat,
            deadline=call.deadline,
            wait=self._wait,
            callback_url=call.callback_url,
            callback=call.resumption.callback if call.resumption else None,
        )


def _of_core(error: Exception, masker: Masker) -> Failure:
    """What the plugin's loop raised; what the action itself raises comes as a result."""
    if isinstance(error, PluginBlockedError):
        return shown(Failure(error_type="PluginBlocked", message=str(error), is_retryable=True), masker)
    if isinstance(error, PluginClosedError):
        return Failure(error_type="PluginClosed", message=str(error), is_retryable=True)
    return failure_of(error, masker)


def _timeout(error_type: str, message: str) -> Failure:
    return Failure(error_type=error_type, message=message, is_retryable=True, is_timeout=True)

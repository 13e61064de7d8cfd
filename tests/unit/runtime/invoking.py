"""Calling a function as an action is called."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from latchflow.runtime.guard import Backends, Grant, GuardedServices, ServiceCall
from latchflow.runtime.invoker import Call, Failure, Success
from latchflow.sdk import (
    EmailMessage,
    HttpRequest,
    HttpResponse,
    Invocation,
    SendResult,
)

_ID = UUID("00000000-0000-4000-8000-000000000001")
SECRET = "hunter2-hunter2"
SCHEMA = {
    "type": "object",
    "properties": {
        "url": {"type": "string"},
        "apiKey": {"type": "string", "writeOnly": True},
        "login": {"type": "object", "properties": {"password": {"type": "string"}}, "writeOnly": True},
    },
}

Run = Callable[..., Awaitable[Success | Failure]]


class _Unused:
    async def send(self, message: EmailMessage, *, idempotency_key: str) -> SendResult:
        raise AssertionError("nobody sends here")

    async def request(self, request: HttpRequest) -> HttpResponse:
        raise AssertionError("nobody sends here")


def call_of(config: dict[str, Any], timeout_seconds: float) -> Call:
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


def failed(result: Success | Failure) -> Failure:
    assert isinstance(result, Failure)
    return result

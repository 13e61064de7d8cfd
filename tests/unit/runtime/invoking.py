"""Calling a function as an action is called."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from latchflow.runtime.invoking.invoker import Call, Failure, Result
from latchflow.sdk import Invocation
from tests.support.services import grant_of, services_of

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

Run = Callable[..., Awaitable[Result]]


def call_of(config: dict[str, Any], timeout_seconds: float) -> Call:
    grant = grant_of(seconds=timeout_seconds)
    return Call(
        config=config,
        payload={"name": "Ada"},
        is_payload_from_input=True,
        invocation=Invocation(id=_ID, attempt=1, event_id=_ID, trigger_id=_ID, pipeline_id=_ID, step_name="greet"),
        services=services_of(grant=grant),
        idempotency_key="key",
        timeout_seconds=timeout_seconds,
        deadline=grant.deadline,
        heartbeat=lambda progress: None,
    )


def failed(result: Result) -> Failure:
    assert isinstance(result, Failure)
    return result

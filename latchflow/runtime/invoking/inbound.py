"""Letting an inbound trigger read a request: its config and secrets, its time limit, and what it answers."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from latchflow.config_schemas import secret_strings
from latchflow.masking import mask, readable, readable_json
from latchflow.nesting import MAX_DEPTH, nests_deeper
from latchflow.runtime.invoking.configs import config_of, secrets_of
from latchflow.runtime.isolation.loops import is_being_cancelled
from latchflow.runtime.lifecycle.registry import LoadedInbound
from latchflow.sdk import Emit, InboundRequest, Reject

_LIMIT_SECONDS = 10.0


class InboundError(Exception):
    """The plugin did not answer as it must; the message is for the operator, masked."""


async def read_request(
    trigger: LoadedInbound, config: Mapping[str, Any], request: InboundRequest
) -> Sequence[Emit] | Reject:
    """Hand a request to the trigger's function, on its plugin's loop.

    Raises:
        InboundError: It raised, answered something else, or took longer than ten seconds.
    """
    secrets = secrets_of(trigger, config)
    details = replace(request, secrets=MappingProxyType(secrets))
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            answer = await trigger.plugin.loop.call(trigger.capability.function, details, config_of(trigger, config))
    except BaseException as error:  # a plugin may raise anything; the API must live on
        if isinstance(error, asyncio.CancelledError) and is_being_cancelled():
            raise
        message = readable(mask(f"{type(error).__name__}: {error}", secret_strings(trigger.schema, config)))
        raise InboundError(message) from None
    if isinstance(answer, Reject):
        return answer
    emits = [answer] if isinstance(answer, Emit) else answer
    if not isinstance(emits, list) or not all(isinstance(emit, Emit) for emit in emits):
        raise InboundError(f"it answered {type(answer).__name__}, not Emit, Reject or a list of Emit")
    for emit in emits:
        _check(emit)
    return emits


def _check(emit: Emit) -> None:
    """What the plugin emits is its own doing: a fault in it is not the sender's."""
    for name, value in (("context", emit.context), ("metadata", emit.metadata)):
        if not isinstance(value, Mapping):
            raise InboundError(f"it emitted a {name} that is {type(value).__name__}, not a mapping")
    if emit.key is not None and not isinstance(emit.key, str):
        raise InboundError(f"it emitted a key that is {type(emit.key).__name__}, not text")
    try:
        written = json.dumps([dict(emit.context), dict(emit.metadata)], allow_nan=False, ensure_ascii=False).encode()
        is_deep = nests_deeper(json.loads(written), MAX_DEPTH + 2)  # of each value in each of the two
    except (TypeError, ValueError, RecursionError) as error:
        raise InboundError(f"it emitted what cannot be written as JSON: {readable(str(error))}") from None
    if is_deep:
        raise InboundError(f"it emitted a value that is nested deeper than {MAX_DEPTH} levels")
    if readable_json(dict(emit.metadata)) != dict(emit.metadata):
        raise InboundError("it emitted metadata with a NUL character")

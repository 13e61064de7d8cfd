"""What an inbound trigger may emit."""

import json
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from latchflow.nesting import MAX_DEPTH
from latchflow.runtime.invoking.inbound import InboundError, read_request
from latchflow.sdk import Emit, InboundRequest, Plugin
from tests.support.registries import NAME, registry_of

_REQUEST = InboundRequest(
    method="POST", path="/", query={}, headers={}, body=b"", received_at=datetime(2030, 1, 31, tzinfo=UTC)
)


async def _emitted(emit: Emit) -> Any:
    plugin = Plugin()
    plugin.inbound_trigger("come", display_name="Come", config_schema={"type": "object"})(lambda request, config: emit)
    with closing(registry_of(plugin)) as registry:
        return await read_request(registry.inbound_triggers[NAME, "come"], {}, _REQUEST)


@pytest.mark.parametrize("part", ["context", "metadata"])
async def test_a_value_that_is_nested_too_deeply_is_the_fault_of_the_plugin(part: str) -> None:
    def emit(depth: int) -> Emit:
        value = {"body": json.loads("[" * depth + "1" + "]" * depth)}
        return Emit(context=value) if part == "context" else Emit(context={}, metadata=value)

    assert await _emitted(emit(MAX_DEPTH)) == [emit(MAX_DEPTH)]
    with pytest.raises(InboundError, match="nested deeper than 100 levels"):
        await _emitted(emit(MAX_DEPTH + 1))

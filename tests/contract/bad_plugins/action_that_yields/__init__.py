from collections.abc import AsyncIterator
from typing import Any

from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()


@plugin.action("act", display_name="Act", config_schema={"type": "object"})
async def act(call: ActionCall[Any]) -> AsyncIterator[int]:
    yield 1

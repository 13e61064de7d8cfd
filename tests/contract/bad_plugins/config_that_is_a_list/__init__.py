from typing import Any

from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()


@plugin.action("act", display_name="Act", config_schema={"type": "array"})
async def act(call: ActionCall[Any]) -> None: ...

"""Actions as a careless author writes them, and one that waits as it should."""

import time
from datetime import timedelta
from typing import Any

from latchflow.sdk import ActionCall, Pending, Plugin

plugin = Plugin()
_SECONDS = {"type": "object", "properties": {"seconds": {"type": "number"}}, "required": ["seconds"]}


@plugin.action("block", display_name="Block the loop", config_schema=_SECONDS)
async def block(call: ActionCall[Any]) -> dict[str, int]:
    if call.invocation.attempt == 1:
        time.sleep(call.config["seconds"])
    return {"attempt": call.invocation.attempt}


@plugin.action("hold", display_name="Hold a thread", config_schema=_SECONDS)
def hold(call: ActionCall[Any]) -> dict[str, int]:
    if call.invocation.attempt == 1:
        time.sleep(call.config["seconds"])
    return {"attempt": call.invocation.attempt}


@plugin.action("wait", display_name="Wait", config_schema=_SECONDS)
class Wait:
    async def execute(self, call: ActionCall[Any]) -> Pending:
        return Pending(check_after=timedelta(seconds=call.config["seconds"]), state={"began": call.invocation.attempt})

    async def resume(self, call: ActionCall[Any], state: Any) -> dict[str, int]:
        return {"began": state["began"], "resumed": call.invocation.attempt}

from typing import Any

from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()


@plugin.action("act", display_name="Act", config_schema={"type": "object"})
class Act:
    async def execute(self, call: ActionCall[Any]) -> None: ...

    def dispose(self, what: str) -> None: ...

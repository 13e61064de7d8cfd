from typing import Any

from latchflow.sdk import Plugin, ResidentTrigger

plugin = Plugin()


@plugin.resident_trigger("listen", display_name="Listen", config_schema={"type": "object"})
class Listen(ResidentTrigger[Any]):
    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def on_config_change(self) -> None: ...

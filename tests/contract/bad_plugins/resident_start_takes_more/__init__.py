from typing import Any

from latchflow.sdk import Plugin, ResidentTrigger

plugin = Plugin()


@plugin.resident_trigger("listen", display_name="Listen", config_schema={"type": "object"})
class Listen(ResidentTrigger[Any]):
    async def start(self, extra: int) -> None: ...  # type: ignore[override]

    async def stop(self) -> None: ...

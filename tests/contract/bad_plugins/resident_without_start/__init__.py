from latchflow.sdk import Plugin, ResidentTrigger

plugin = Plugin()


@plugin.resident_trigger("listen", display_name="Listen", config_schema={"type": "object"})
class Listen(ResidentTrigger):
    async def stop(self) -> None: ...

from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()


@plugin.action("greet", display_name="Greet", config_schema={"type": "object"})
async def greet(call: ActionCall) -> dict[str, str]:
    return {}

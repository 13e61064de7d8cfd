from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()


@plugin.action(5, display_name="Greet", config_schema={"type": "object"})
async def greet(call: ActionCall) -> dict[str, str]:
    return {}

from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()


@plugin.action("greet", display_name="Greet", config_schema={"description": "x" * 300_000})
async def greet(call: ActionCall) -> dict[str, str]:
    return {}

import threading

from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()


@plugin.action("greet", display_name="Greet", config_schema={"type": "object"})
async def greet(call: ActionCall) -> dict[str, str]:
    return {}


threading.Thread(target=threading.Event().wait, name="stray", daemon=True).start()

from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()


@plugin.action("greet", display_name="Greet", config_schema={"type": "object"})
class Greet:
    def __init__(self) -> None:
        raise SystemExit(0)

    def execute(self, call: ActionCall) -> None: ...

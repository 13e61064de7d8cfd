from latchflow.sdk import Plugin

plugin = Plugin()


@plugin.provider(
    kind="email",
    id="post",
    display_name="Post",
    config_schema={"type": "object", "properties": {"url": {"type": "string"}}},
    defaults={"url": "AWS_REGION"},
)
class Post:
    def __init__(self, setup: object) -> None: ...

    async def send(self, details: object) -> None: ...

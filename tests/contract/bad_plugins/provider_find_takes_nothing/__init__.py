from typing import Any

from latchflow.sdk import Plugin

plugin = Plugin()


@plugin.provider(kind="email", id="post", display_name="Post", config_schema={"type": "object"})
class Post:
    def __init__(self, setup: Any) -> None: ...

    async def send(self, delivery: Any) -> Any: ...

    async def find(self) -> Any: ...

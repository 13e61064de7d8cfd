"""A plugin that tries to get what nobody declared or granted. It stays inside the SDK's surface."""

from collections.abc import Mapping
from typing import Any

from latchflow.sdk import ActionCall, Plugin

from .arguments import ARGUMENTS
from .endings import ENDINGS
from .reach import REACH

plugin = Plugin()

SCHEMA = {
    "type": "object",
    "properties": {
        "trick": {"type": "string"},
        "nested": {"type": "object"},
        "apiKey": {"type": "string", "writeOnly": True},
    },
}
_TRICKS = {**ARGUMENTS, **ENDINGS, **REACH}


async def perform(call: ActionCall[Mapping[str, Any]]) -> Any:
    return await _TRICKS[call.config["trick"]](call)


# The same tricks under different scopes, all of which plugin.toml declares.
plugin.action("mail", display_name="With email:send", config_schema=SCHEMA, scopes=["email:send"])(perform)
plugin.action("people", display_name="With users:write", config_schema=SCHEMA, scopes=["users:write"])(perform)
plugin.action("files", display_name="With storage", config_schema=SCHEMA, scopes=["storage:write", "storage:read"])(
    perform
)
plugin.action("bare", display_name="With no scope", config_schema=SCHEMA)(perform)

"""``/admin/plugins``."""

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import Path

from api.auth import Caller, requires
from api.context import Context, ContextDep
from api.paging import Cursor, Limit, decode_cursor, encode_cursor
from api.routing import admin_router
from api.schemas.conventions import Listing
from api.schemas.plugins import Plugin
from latchflow.names import provider_config_key
from latchflow.runtime.provider_states import provider_states
from latchflow.store import plugins
from latchflow.store.database import Connection

router = admin_router("/admin/plugins", "plugins")

Reader = Annotated[Caller, requires("plugins:read")]

_LISTING = "plugins"


@router.get("", summary="List plugins", operation_id="listPlugins")
async def list_plugins(context: ContextDep, _: Reader, limit: Limit = 50, cursor: Cursor = None) -> Listing[Plugin]:
    """Plugins by name, with their capabilities and the processes that loaded them."""
    after = decode_cursor(_LISTING, cursor)
    async with context.database.connection() as connection:
        page = await plugins.list_plugins(connection, limit=limit, after=after[0] if after else None)
        await _add_provider_states(context, connection, page.items)
    items = [Plugin.model_validate(row) for row in page.items]
    return Listing(items=items, next_cursor=encode_cursor(_LISTING, page.next_key))


@router.get("/{pluginId}", summary="Read a plugin", operation_id="getPlugin")
async def get_plugin(context: ContextDep, _: Reader, plugin_id: Annotated[UUID, Path(alias="pluginId")]) -> Plugin:
    """One plugin."""
    async with context.database.connection() as connection:
        row = await plugins.get_plugin(connection, plugin_id)
        await _add_provider_states(context, connection, [row])
        return Plugin.model_validate(row)


async def _add_provider_states(context: Context, connection: Connection, rows: list[dict[str, Any]]) -> None:
    if not any(row["providers"] for row in rows):
        return
    states = await provider_states(connection, context.services.config)
    for row in rows:
        for provider in row["providers"]:
            state = states[row["name"], provider["id"]]
            provider.update(asdict(state), config_key=provider_config_key(row["name"], provider["id"]))

"""``/admin/plugins``."""

from typing import Annotated
from uuid import UUID

from fastapi import Path

from api.auth import Caller, requires
from api.context import ContextDep
from api.paging import Cursor, Limit, decode_cursor, encode_cursor
from api.routing import admin_router
from api.schemas.conventions import Listing
from api.schemas.plugins import Plugin
from latchflow.store import plugins

router = admin_router("/admin/plugins", "plugins")

Reader = Annotated[Caller, requires("plugins:read")]

_LISTING = "plugins"


@router.get("", summary="List plugins", operation_id="listPlugins")
async def list_plugins(context: ContextDep, _: Reader, limit: Limit = 50, cursor: Cursor = None) -> Listing[Plugin]:
    """Plugins by name, with their capabilities and the processes that loaded them."""
    after = decode_cursor(_LISTING, cursor)
    async with context.database.connection() as connection:
        page = await plugins.list_plugins(connection, limit=limit, after=after[0] if after else None)
    items = [Plugin.model_validate(row) for row in page.items]
    return Listing(items=items, next_cursor=encode_cursor(_LISTING, page.next_key))


@router.get("/{pluginId}", summary="Read a plugin", operation_id="getPlugin")
async def get_plugin(context: ContextDep, _: Reader, plugin_id: Annotated[UUID, Path(alias="pluginId")]) -> Plugin:
    """One plugin."""
    async with context.database.connection() as connection:
        return Plugin.model_validate(await plugins.get_plugin(connection, plugin_id))

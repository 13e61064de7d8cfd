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
from api.schemas.plugins import Plugin, PluginPatch, PluginStatus
from latchflow.runtime.lifecycle.usage import merged
from latchflow.runtime.providers.provider_states import ProviderState, provider_states
from latchflow.store import plugins
from latchflow.store.database import Connection

router = admin_router("/admin/plugins", "plugins")

Reader = Annotated[Caller, requires("plugins:read")]
Writer = Annotated[Caller, requires("plugins:write")]
PluginId = Annotated[UUID, Path(alias="pluginId")]

_LISTING = "plugins"
_GONE = ProviderState(is_configured=False, is_active=False, problem=None)
"""Of a provider that went away between two reads."""


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
async def get_plugin(context: ContextDep, _: Reader, plugin_id: PluginId) -> Plugin:
    """One plugin."""
    return await _document(context, plugin_id)


@router.patch("/{pluginId}", summary="Enable, disable, grant scopes", operation_id="changePlugin")
async def change_plugin(context: ContextDep, caller: Writer, plugin_id: PluginId, body: PluginPatch) -> Plugin:
    """Enabling checks the plugin first; a plugin that is disabled ends what waits for it. Every process follows."""
    given = body.given()
    is_enabled = {"ENABLED": True, "DISABLED": False}.get(given.get("status", ""))
    await context.administration.change(
        plugin_id, is_enabled=is_enabled, granted_scopes=given.get("granted_scopes"), actor=caller.name
    )
    return await _document(context, plugin_id)


@router.post("/{pluginId}/reload", summary="Look at a plugin's folder again", operation_id="reloadPlugin")
async def reload_plugin(context: ContextDep, caller: Writer, plugin_id: PluginId) -> Plugin:
    """A plugin that failed and was mended is enabled. Changed code takes over only under hot reload."""
    await context.administration.reload(plugin_id, actor=caller.name)
    return await _document(context, plugin_id)


@router.get("/{pluginId}/status", summary="How a plugin is doing", operation_id="getPluginStatus")
async def plugin_status(context: ContextDep, _: Reader, plugin_id: PluginId) -> PluginStatus:
    """Where it runs, and numbers per capability, at most five seconds old."""
    async with context.database.connection() as connection:
        plugin = await plugins.get_plugin(connection, plugin_id)
        reported = await plugins.reported_stats(connection, plugin_id)
    capabilities = [
        {"kind": one["kind"], "key": one["key"]}
        | merged(stats[name] for stats in reported if (name := f"{one['kind']}/{one['key']}") in stats)
        for one in plugin["capabilities"]
    ]
    return PluginStatus.model_validate({**plugin, "processes": plugin["instances"], "capabilities": capabilities})


async def _document(context: Context, plugin_id: UUID) -> Plugin:
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
            state = states.get((row["name"], provider["id"]), _GONE)
            provider.update(asdict(state))

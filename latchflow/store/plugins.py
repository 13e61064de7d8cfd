"""Reading plugins with what they bring and where they run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from latchflow.errors import NotFoundError
from latchflow.names import provider_config_key
from latchflow.store.database import Connection
from latchflow.store.pages import Page, page_of
from latchflow.store.processes import ALIVE_SECONDS

_PLUGINS = """
    SELECT id, name, display_name, version, code_hash, status, error, scopes, granted_scopes FROM plugins
"""


async def list_plugins(connection: Connection, *, limit: int, after: str | None) -> Page[dict[str, Any]]:
    """Plugins by name, from behind the name `after`."""
    cursor = await connection.execute(
        f"{_PLUGINS} WHERE %(after)s::text IS NULL OR name > %(after)s ORDER BY name LIMIT %(limit)s",
        {"after": after, "limit": limit + 1},
    )
    page = page_of(await cursor.fetchall(), limit, lambda row: row["name"])
    await _complete(connection, page.items)
    return page


async def get_plugin(connection: Connection, plugin_id: UUID) -> dict[str, Any]:
    """One plugin.

    Raises:
        NotFoundError: There is none with this id.
    """
    cursor = await connection.execute(f"{_PLUGINS} WHERE id = %s", (plugin_id,))
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"There is no plugin {plugin_id}.")
    await _complete(connection, [row])
    return row


async def _complete(connection: Connection, rows: list[dict[str, Any]]) -> None:
    by_id = {row["id"]: row for row in rows}
    for row in rows:
        row.update(capabilities=[], providers=[], instances=[])
    cursor = await connection.execute(
        """
        SELECT id, plugin_id, kind, key, display_name, config_schema, scopes FROM capabilities
        WHERE plugin_id = ANY(%s) AND is_present ORDER BY kind, key
        """,
        (list(by_id),),
    )
    for capability in await cursor.fetchall():
        by_id[capability.pop("plugin_id")]["capabilities"].append(capability)
    cursor = await connection.execute(
        """
        SELECT i.plugin_id, i.process_id, p.role, p.identity, i.version, i.code_hash, i.state, i.error, i.since,
               p.started_at, p.seen_at
        FROM plugin_instances i JOIN processes p ON p.id = i.process_id
        WHERE i.plugin_id = ANY(%s) AND p.seen_at > now() - make_interval(secs => %s) ORDER BY p.started_at, p.id
        """,
        (list(by_id), ALIVE_SECONDS),
    )
    for instance in await cursor.fetchall():
        by_id[instance.pop("plugin_id")]["instances"].append(instance)
    for row in rows:
        row["mixed"] = _is_mixed(row)
    cursor = await connection.execute(
        """
        SELECT plugin_id, kind, id, display_name, config_schema, defaults FROM providers
        WHERE plugin_id = ANY(%s) AND is_present ORDER BY kind, id
        """,
        (list(by_id),),
    )
    for provider in await cursor.fetchall():
        row = by_id[provider.pop("plugin_id")]
        row["providers"].append({**provider, "config_key": provider_config_key(row["name"], provider["id"])})


def _is_mixed(row: Mapping[str, Any]) -> bool:
    """Whether processes that live differ, from one another or from what shall run."""
    running = {instance["code_hash"] for instance in row["instances"]}
    wanted = {row["code_hash"]} if row["status"] == "ENABLED" else set()
    return bool(running) and len(running | wanted) > 1


async def reported_stats(connection: Connection, plugin_id: UUID) -> list[dict[str, Any]]:
    """The numbers that each process that lives reported of a plugin, by ``KIND/key``."""
    cursor = await connection.execute(
        """
        SELECT i.stats FROM plugin_instances i JOIN processes p ON p.id = i.process_id
        WHERE i.plugin_id = %s AND p.seen_at > now() - make_interval(secs => %s) LIMIT 1000
        """,
        (plugin_id, ALIVE_SECONDS),
    )
    return [row["stats"] for row in await cursor.fetchall()]


@dataclass(frozen=True, kw_only=True)
class Capability:
    """A capability as definitions need it.

    Attributes:
        plugin_status: ``DISCOVERED``, ``ENABLED``, ``DISABLED`` or ``FAILED``.
        shape: ``action``, or the trigger's: ``inbound``, ``scheduled`` or ``resident``.
        is_present: False when the installed version of the plugin no longer brings it.
    """

    id: UUID
    plugin: str
    plugin_status: str
    plugin_version: str
    shape: str
    key: str
    config_schema: dict[str, Any]
    is_present: bool


async def find_capability(
    connection: Connection, kind: str, *, capability_id: UUID | None = None, plugin: str = "", key: str = ""
) -> Capability | None:
    """A capability of this kind by its id, or by its plugin and key."""
    cursor = await connection.execute(
        """
        SELECT c.id, p.name AS plugin, p.status AS plugin_status, p.version AS plugin_version,
               c.shape, c.key, c.config_schema, c.is_present
        FROM capabilities c JOIN plugins p ON p.id = c.plugin_id
        WHERE c.kind = %(kind)s
          AND CASE WHEN %(id)s::uuid IS NULL THEN p.name = %(plugin)s AND c.key = %(key)s ELSE c.id = %(id)s END
        """,
        {"kind": kind, "id": capability_id, "plugin": plugin, "key": key},
    )
    row = await cursor.fetchone()
    return None if row is None else Capability(**row)

"""What an incoming request needs of its trigger."""

from dataclasses import dataclass
from uuid import UUID

from latchflow.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class InboundTrigger:
    """A trigger definition as the ingest reads it.

    Attributes:
        plugin_version: The version of the plugin that saved the config.
    """

    id: UUID
    name: str
    is_enabled: bool
    config_sealed: bytes
    plugin: str
    plugin_status: str
    plugin_version: str
    capability_key: str


async def get_inbound_trigger(connection: Connection, trigger_id: UUID) -> InboundTrigger | None:
    """The trigger with this id; None when there is none."""
    row = await (
        await connection.execute(
            """
            SELECT t.id, t.name, t.is_enabled, t.config_sealed, t.plugin_version, p.name AS plugin,
                   p.status AS plugin_status, c.key AS capability_key
            FROM trigger_definitions t
            JOIN capabilities c ON c.id = t.capability_id JOIN plugins p ON p.id = c.plugin_id
            WHERE t.id = %s
            """,
            (trigger_id,),
        )
    ).fetchone()
    return InboundTrigger(**row) if row else None

"""The secrets that what an event left behind may hold: those of the configs its actions were called with."""

from collections.abc import Sequence
from uuid import UUID

from latchflow.config_schemas import secret_strings
from latchflow.crypto import Keyring
from latchflow.masking import Masker
from latchflow.store import places
from latchflow.store.database import Connection


async def masker_of_events(connection: Connection, keyring: Keyring, event_ids: Sequence[UUID]) -> Masker:
    """What takes the secrets of every action of these events out of what people read.

    An output may hold the secrets of other steps too, so those of the whole event count. Configs without secrets are
    not opened.

    Raises:
        SealError: A config with secrets cannot be opened, so nobody can say what must not be shown.
    """
    cursor = await connection.execute(
        """
        WITH used AS (
            SELECT DISTINCT action_id, action_version, plugin, capability_key
            FROM invocations WHERE event_id = ANY(%s)
        )
        SELECT used.action_id, used.plugin, v.config_sealed, c.config_schema
        FROM used
        JOIN action_versions v ON v.action_id = used.action_id AND v.version = used.action_version
        JOIN plugins p ON p.name = used.plugin
        JOIN capabilities c ON c.plugin_id = p.id AND c.kind = 'ACTION' AND c.key = used.capability_key
        WHERE c.config_schema @? '$.**.writeOnly'
        """,
        (list(event_ids),),
    )
    secrets: set[str] = set()
    for row in await cursor.fetchall():
        config = keyring.open_json(row["config_sealed"], places.action_config(row["action_id"], row["plugin"]))
        secrets.update(secret_strings(row["config_schema"], config))
    return Masker(secrets)

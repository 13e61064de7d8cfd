"""Keys that a provider may hold and that are no object's: uploads in progress, and what is to be removed.

A key stands here before anything is written under it, so nothing that a killed process leaves is forgotten.
"""

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from latchflow.store.database import Connection

ALIVE_FOR = timedelta(minutes=15)
"""An upload that reports nothing for so long counts as cut off."""
READ_FOR = timedelta(minutes=5)
"""Content that was replaced or deleted stays for so long: somebody may just have looked up where it is."""
_REMOVE_FOR = timedelta(minutes=2)
"""A removal that takes longer is made again."""


@dataclass(frozen=True, kw_only=True)
class Held:
    """Content under a key of a provider."""

    provider: str
    storage_key: str


async def begin(connection: Connection, held: Held) -> None:
    """Write down a key that something is about to be written under."""
    await connection.execute(
        "INSERT INTO storage_uploads (provider, storage_key, remove_after) VALUES (%s, %s, now() + %s)",
        (held.provider, held.storage_key, ALIVE_FOR),
    )


async def report_alive(connection: Connection, held: Held) -> None:
    """Say that the upload goes on; without effect once it counts as cut off."""
    await connection.execute(
        """
        UPDATE storage_uploads SET remove_after = now() + %s
        WHERE provider = %s AND storage_key = %s AND NOT is_doomed
        """,
        (ALIVE_FOR, held.provider, held.storage_key),
    )


async def finish(connection: Connection, held: Held) -> bool:
    """Take the key off the list, for the object that it becomes in this transaction.

    Returns:
        False when the upload counts as cut off: no object may be made of it.
    """
    cursor = await connection.execute(
        "DELETE FROM storage_uploads WHERE provider = %s AND storage_key = %s AND NOT is_doomed",
        (held.provider, held.storage_key),
    )
    return cursor.rowcount == 1


async def give_up(connection: Connection, held: Held) -> None:
    """The upload failed: what there is of it can be removed at once."""
    await connection.execute(
        "UPDATE storage_uploads SET remove_after = now() WHERE provider = %s AND storage_key = %s",
        (held.provider, held.storage_key),
    )


async def release(connection: Connection, held: Held) -> None:
    """Put down content that belongs to no object any more, in the transaction that takes it from the object."""
    await connection.execute(
        "INSERT INTO storage_uploads (provider, storage_key, remove_after) VALUES (%s, %s, now() + %s)",
        (held.provider, held.storage_key, READ_FOR),
    )


async def release_all(connection: Connection, bundle_id: UUID) -> None:
    """As `release`, for all objects of a bundle that is locked."""
    await connection.execute(
        """
        INSERT INTO storage_uploads (provider, storage_key, remove_after)
        SELECT provider, storage_key, now() + %s FROM bundle_objects WHERE bundle_id = %s
        """,
        (READ_FOR, bundle_id),
    )


async def claim_leftovers(connection: Connection, *, limit: int) -> list[Held]:
    """Take what is to be removed now; no other process gets it for two minutes, and no object is made of it."""
    cursor = await connection.execute(
        """
        UPDATE storage_uploads u SET is_doomed = true, remove_after = now() + %s
        FROM (
            SELECT provider, storage_key FROM storage_uploads WHERE remove_after <= now()
            ORDER BY remove_after LIMIT %s FOR UPDATE SKIP LOCKED
        ) due
        WHERE u.provider = due.provider AND u.storage_key = due.storage_key
        RETURNING u.provider, u.storage_key
        """,
        (_REMOVE_FOR, limit),
    )
    return [Held(**row) for row in await cursor.fetchall()]


async def forget(connection: Connection, held: Held) -> None:
    """The provider holds nothing under the key any more."""
    await connection.execute(
        "DELETE FROM storage_uploads WHERE provider = %s AND storage_key = %s AND is_doomed",
        (held.provider, held.storage_key),
    )

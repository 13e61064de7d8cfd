"""The objects of bundles: which content a path has."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from psycopg import errors

from latchflow.errors import ConflictError, NotFoundError
from latchflow.store import uploads
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.bundles import get_bundle, no_bundle
from latchflow.store.database import Connection
from latchflow.store.pages import Page, page_of
from latchflow.store.uploads import Held


@dataclass(frozen=True, kw_only=True)
class BundleObject:
    """An object, and where its content is."""

    bundle_id: UUID
    path: str
    size: int
    sha256: bytes
    content_type: str
    provider: str
    storage_key: str
    created_at: datetime
    created_by: str

    @property
    def held(self) -> Held:
        """Who holds the content."""
        return Held(provider=self.provider, storage_key=self.storage_key)


async def list_objects(connection: Connection, bundle_id: UUID, *, limit: int, after: str | None) -> Page[BundleObject]:
    """The objects of a bundle by path, from behind the path `after`."""
    cursor = await connection.execute(
        """
        SELECT * FROM bundle_objects WHERE bundle_id = %(bundle)s AND (%(after)s::text IS NULL OR path > %(after)s)
        ORDER BY path LIMIT %(limit)s
        """,
        {"bundle": bundle_id, "after": after, "limit": limit + 1},
    )
    objects = [BundleObject(**row) for row in await cursor.fetchall()]
    return page_of(objects, limit, lambda entry: entry.path)


async def find_object(connection: Connection, bundle_id: UUID, path: str) -> BundleObject:
    """One object.

    Raises:
        NotFoundError: There is no such bundle, or none of this path in it.
    """
    cursor = await connection.execute(
        "SELECT * FROM bundle_objects WHERE bundle_id = %s AND path = %s", (bundle_id, path)
    )
    row = await cursor.fetchone()
    if row is None:
        await get_bundle(connection, bundle_id)
        raise NotFoundError(f"There is no object {path!r} in the bundle {bundle_id}.")
    return BundleObject(**row)


async def store_object(connection: Connection, entry: BundleObject) -> bool:
    """Make a finished upload the object of its path; the connection is inside a transaction.

    Returns:
        Whether it replaced another.

    Raises:
        NotFoundError: The bundle is gone.
        ConflictError: The upload took so long without a sign of life that it was given up.
    """
    if not await uploads.finish(connection, entry.held):
        raise ConflictError("The upload stood still for too long and was given up. Send it again.")
    try:
        cursor = await connection.execute(
            """
            INSERT INTO bundle_objects AS o (bundle_id, path, size, sha256, content_type, provider, storage_key,
                                             created_at, created_by)
            VALUES (%(bundle_id)s, %(path)s, %(size)s, %(sha256)s, %(content_type)s, %(provider)s, %(storage_key)s,
                    %(created_at)s, %(created_by)s)
            ON CONFLICT (bundle_id, path) DO UPDATE
            SET size = EXCLUDED.size, sha256 = EXCLUDED.sha256, content_type = EXCLUDED.content_type,
                provider = EXCLUDED.provider, storage_key = EXCLUDED.storage_key, created_at = EXCLUDED.created_at,
                created_by = EXCLUDED.created_by
            RETURNING old.provider, old.storage_key
            """,
            vars(entry),
        )
    except errors.ForeignKeyViolation:
        raise no_bundle(entry.bundle_id) from None
    (former,) = await cursor.fetchall()
    is_replaced = former["storage_key"] is not None
    if is_replaced:
        await uploads.release(connection, Held(**former))
    await _record(connection, entry, "update" if is_replaced else "create", entry.created_by)
    return is_replaced


async def delete_object(connection: Connection, bundle_id: UUID, path: str, *, actor: str) -> None:
    """Delete an object; the connection is inside a transaction. Its content is removed later.

    Raises:
        NotFoundError: There is no such bundle, or none of this path in it.
    """
    cursor = await connection.execute(
        "DELETE FROM bundle_objects WHERE bundle_id = %s AND path = %s RETURNING *", (bundle_id, path)
    )
    row = await cursor.fetchone()
    if row is None:
        await get_bundle(connection, bundle_id)
        raise NotFoundError(f"There is no object {path!r} in the bundle {bundle_id}.")
    entry = BundleObject(**row)
    await uploads.release(connection, entry.held)
    await _record(connection, entry, "delete", actor)


async def _record(connection: Connection, entry: BundleObject, operation: str, actor: str) -> None:
    change = Change(object="object", id=entry.bundle_id, name=entry.path, operation=operation, fields=["content"])
    await record_change(connection, change, actor=actor)

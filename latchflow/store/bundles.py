"""Bundles: what groups objects, and what links release."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import errors, sql

from latchflow.errors import ConflictError, NotFoundError
from latchflow.store import uploads
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.database import Connection
from latchflow.store.pages import Page, page_of
from latchflow.store.versions import Expected, check_version


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle, without its objects."""

    id: UUID
    name: str
    description: str
    is_enabled: bool
    version: int
    created_at: datetime
    updated_at: datetime


async def list_bundles(connection: Connection, *, limit: int, after: tuple[datetime, UUID] | None) -> Page[Bundle]:
    """Bundles in the order they were created, from behind the key `after`."""
    at, last_id = after or (None, None)
    cursor = await connection.execute(
        """
        SELECT * FROM bundles
        WHERE %(at)s::timestamptz IS NULL OR (created_at, id) > (%(at)s, %(id)s)
        ORDER BY created_at, id LIMIT %(limit)s
        """,
        {"at": at, "id": last_id, "limit": limit + 1},
    )
    bundles = [Bundle(**row) for row in await cursor.fetchall()]
    return page_of(bundles, limit, lambda bundle: (bundle.created_at, bundle.id))


async def get_bundle(connection: Connection, bundle_id: UUID, *, lock: bool = False) -> Bundle:
    """One bundle.

    Args:
        connection: Inside a transaction when `lock` is set.
        bundle_id: Which one.
        lock: Keep others from changing it, and from adding objects and links, until the transaction ends.

    Raises:
        NotFoundError: There is none with this id.
    """
    cursor = await connection.execute(
        "SELECT * FROM bundles WHERE id = %s" + (" FOR UPDATE" if lock else ""), (bundle_id,)
    )
    row = await cursor.fetchone()
    if row is None:
        raise no_bundle(bundle_id)
    return Bundle(**row)


def no_bundle(bundle_id: UUID) -> NotFoundError:
    """The error about a bundle that is not there."""
    return NotFoundError(f"There is no bundle {bundle_id}.")


async def create_bundle(connection: Connection, values: Mapping[str, Any], *, actor: str) -> Bundle:
    """Store a new bundle of ``name``, ``description`` and ``is_enabled``; the connection is inside a transaction.

    Raises:
        ConflictError: The name is taken.
    """
    bundle_id = uuid4()
    try:
        await connection.execute(
            """
            INSERT INTO bundles (id, name, description, is_enabled, version)
            VALUES (%(id)s, %(name)s, %(description)s, %(is_enabled)s, 1)
            """,
            {**values, "id": bundle_id},
        )
    except errors.UniqueViolation:
        raise _name_taken(values["name"]) from None
    bundle = await get_bundle(connection, bundle_id)
    await _record(connection, bundle, "create", list(values), actor)
    return bundle


async def change_bundle(
    connection: Connection, bundle_id: UUID, changes: Mapping[str, Any], *, expected: Expected, actor: str
) -> Bundle:
    """Change ``name``, ``description`` or ``is_enabled``; the connection is inside a transaction.

    Raises:
        NotFoundError: There is none with this id.
        VersionConflictError: It has another version by now.
        ConflictError: The name is taken.
    """
    current = await get_bundle(connection, bundle_id, lock=True)
    check_version("bundle", current.version, expected)
    if not changes:
        return current
    assignments = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in changes]
    statement = sql.SQL("UPDATE bundles SET {}, version = version + 1, updated_at = now() WHERE id = %(id)s")
    try:
        await connection.execute(statement.format(sql.SQL(", ").join(assignments)), {**changes, "id": bundle_id})
    except errors.UniqueViolation:
        raise _name_taken(changes["name"]) from None
    bundle = await get_bundle(connection, bundle_id)
    await _record(connection, bundle, "update", list(changes), actor)
    return bundle


async def set_enabled(connection: Connection, bundle_id: UUID, is_enabled: bool, *, actor: str) -> None:
    """Switch a bundle on or off; the connection is inside a transaction. The state that there is stays as it is.

    Raises:
        NotFoundError: There is none with this id.
    """
    current = await get_bundle(connection, bundle_id, lock=True)
    changes = {} if current.is_enabled == is_enabled else {"is_enabled": is_enabled}
    await change_bundle(connection, bundle_id, changes, expected=None, actor=actor)


async def delete_bundle(connection: Connection, bundle_id: UUID, *, expected: Expected, actor: str) -> None:
    """Delete a bundle with its objects and links; the connection is inside a transaction.

    The contents are removed from their providers later, by whoever removes leftovers.

    Raises:
        NotFoundError: There is none with this id.
        VersionConflictError: It has another version by now.
    """
    bundle = await get_bundle(connection, bundle_id, lock=True)
    check_version("bundle", bundle.version, expected)
    # The lock keeps uploads that are about to end from becoming objects in between.
    await uploads.release_all(connection, bundle_id)
    await connection.execute("DELETE FROM bundles WHERE id = %s", (bundle_id,))
    await _record(connection, bundle, "delete", [], actor)


def _name_taken(name: str) -> ConflictError:
    return ConflictError(f"There is already a bundle named {name!r}.")


async def _record(connection: Connection, bundle: Bundle, operation: str, fields: Sequence[str], actor: str) -> None:
    change = Change(
        object="bundle",
        id=bundle.id,
        name=bundle.name,
        operation=operation,
        fields=fields,
        version=bundle.version,
    )
    await record_change(connection, change, actor=actor)

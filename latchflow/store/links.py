"""Release links: whoever has one may fetch the objects of a bundle. Only the SHA-256 of its token is stored."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from psycopg import errors

from latchflow.errors import NotFoundError
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.bundles import no_bundle
from latchflow.store.database import Connection
from latchflow.store.pages import Page, page_of
from latchflow.store.tokens import is_token

_FIELDS = "id, bundle_id, max_downloads, downloads, created_at, created_by, expires_at, last_used_at, revoked_at"
_KEPT_FOR = timedelta(days=30)


@dataclass(frozen=True, kw_only=True)
class LinkState:
    """A link whose token was presented.

    Attributes:
        refusal: Why it opens nothing: ``revoked``, ``expired``, ``used_up`` or ``disabled``; None when it does.
    """

    id: UUID
    bundle_id: UUID
    bundle_name: str
    expires_at: datetime
    refusal: str | None


async def create_link(
    connection: Connection,
    bundle_id: UUID,
    *,
    expires_in: timedelta,
    max_downloads: int | None,
    actor: str,
    key: str | None = None,
) -> tuple[str, dict[str, Any]] | None:
    """Make a link; the connection is inside a transaction.

    Args:
        connection: Inside a transaction.
        bundle_id: What it releases.
        expires_in: From now.
        max_downloads: Of single objects, in all; None for no limit.
        actor: Who makes it.
        key: Of the call that asks for it; a repetition takes the place of the link that the call made before, whose
            token nobody was given.

    Returns:
        The token, which is nowhere stored, and the link's row; None when somebody has revoked the link that the call
        made before: that holds.

    Raises:
        NotFoundError: There is no such bundle.
    """
    token = "lfk_" + secrets.token_urlsafe(32)
    values = {
        "id": uuid4(),
        "bundle": bundle_id,
        "hash": _hash(token),
        "key": key,
        "max": max_downloads,
        "actor": actor,
        "life": expires_in,
    }
    try:
        cursor = await connection.execute(
            f"""
            INSERT INTO release_links (id, bundle_id, token_hash, idempotency_key, max_downloads, created_by,
                                       expires_at)
            VALUES (%(id)s, %(bundle)s, %(hash)s, %(key)s, %(max)s, %(actor)s, now() + %(life)s)
            ON CONFLICT (idempotency_key) DO UPDATE
            SET bundle_id = EXCLUDED.bundle_id, token_hash = EXCLUDED.token_hash,
                max_downloads = EXCLUDED.max_downloads, downloads = 0, created_at = EXCLUDED.created_at,
                created_by = EXCLUDED.created_by, expires_at = EXCLUDED.expires_at, last_used_at = NULL
            WHERE release_links.revoked_at IS NULL
            RETURNING {_FIELDS}
            """,
            values,
        )
    except errors.ForeignKeyViolation:
        raise no_bundle(bundle_id) from None
    row = await cursor.fetchone()
    if row is None:
        return None
    await _record(connection, row, "create", ["expiresAt", "maxDownloads"], actor)
    return token, row


async def list_links(
    connection: Connection, bundle_id: UUID, *, limit: int, after: tuple[datetime, UUID] | None
) -> Page[dict[str, Any]]:
    """The links of a bundle in the order they were made, those that open nothing any more too."""
    at, last_id = after or (None, None)
    cursor = await connection.execute(
        f"""
        SELECT {_FIELDS} FROM release_links
        WHERE bundle_id = %(bundle)s AND (%(at)s::timestamptz IS NULL OR (created_at, id) > (%(at)s, %(id)s))
        ORDER BY created_at, id LIMIT %(limit)s
        """,
        {"bundle": bundle_id, "at": at, "id": last_id, "limit": limit + 1},
    )
    return page_of(await cursor.fetchall(), limit, lambda row: (row["created_at"], row["id"]))


async def revoke_link(connection: Connection, bundle_id: UUID, link_id: UUID, *, actor: str) -> None:
    """Revoke a link for good; the connection is inside a transaction. Repeating it changes nothing.

    Raises:
        NotFoundError: The bundle has no such link.
    """
    cursor = await connection.execute(
        f"SELECT {_FIELDS} FROM release_links WHERE id = %s AND bundle_id = %s FOR UPDATE", (link_id, bundle_id)
    )
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"The bundle {bundle_id} has no link {link_id}.")
    if row["revoked_at"] is None:
        await connection.execute("UPDATE release_links SET revoked_at = now() WHERE id = %s", (link_id,))
        await _record(connection, row, "delete", [], actor)


async def look_up_link(connection: Connection, token: str) -> LinkState | None:
    """Find the link of a token that was presented; changes nothing."""
    if not is_token(token):
        return None
    token_hash = _hash(token)
    cursor = await connection.execute(
        """
        SELECT l.id, l.bundle_id, b.name AS bundle_name, l.expires_at, l.token_hash,
               CASE WHEN l.revoked_at IS NOT NULL THEN 'revoked'
                    WHEN l.expires_at <= now() THEN 'expired'
                    WHEN l.downloads >= l.max_downloads THEN 'used_up'
                    WHEN NOT b.is_enabled THEN 'disabled' END AS refusal
        FROM release_links l JOIN bundles b ON b.id = l.bundle_id WHERE l.token_hash = %s
        """,
        (token_hash,),
    )
    row = await cursor.fetchone()
    if row is None or not hmac.compare_digest(row.pop("token_hash"), token_hash):
        return None
    return LinkState(**row)


async def count_download(connection: Connection, link_id: UUID) -> bool:
    """Count one download, unless the link opens nothing any more.

    One statement, so of several processes that count the last download of a link at once, one gets it.
    """
    cursor = await connection.execute(
        """
        UPDATE release_links l SET downloads = downloads + 1, last_used_at = now()
        FROM bundles b
        WHERE l.id = %s AND b.id = l.bundle_id AND b.is_enabled AND l.revoked_at IS NULL AND l.expires_at > now()
          AND (l.max_downloads IS NULL OR l.downloads < l.max_downloads)
        """,
        (link_id,),
    )
    return cursor.rowcount == 1


async def forget_links(connection: Connection) -> None:
    """Forget links that expired a month ago."""
    await connection.execute(
        """
        DELETE FROM release_links WHERE id IN (
            SELECT id FROM release_links WHERE expires_at < now() - %s::interval ORDER BY expires_at LIMIT 1000
        )
        """,
        (_KEPT_FOR,),
    )


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


async def _record(connection: Connection, row: dict[str, Any], operation: str, fields: list[str], actor: str) -> None:
    change = Change(object="release link", id=row["id"], name=str(row["bundle_id"]), operation=operation, fields=fields)
    await record_change(connection, change, actor=actor)

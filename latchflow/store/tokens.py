"""API tokens. Only a token's SHA-256 is stored."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import errors

from latchflow.errors import ConfigurationError, NotFoundError
from latchflow.scopes import ALL
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.database import Connection
from latchflow.store.pages import Page, page_of

_PATTERN = re.compile(r"lfk_[A-Za-z0-9_-]{32,128}")
_BOOTSTRAP_ID = UUID("5b0f6a52-7c55-5d0a-8c0e-62a1f4b0a001")
_BOOTSTRAP = "bootstrap"
_FIELDS = "id, name, scopes, created_at, created_by, expires_at, last_used_at, revoked_at"


@dataclass(frozen=True, kw_only=True)
class TokenState:
    """A token that was presented and is known.

    Attributes:
        refusal: Why it may not be used: ``revoked`` or ``expired``; None when it may.
    """

    id: UUID
    name: str
    scopes: frozenset[str]
    refusal: str | None


def is_token(text: str) -> bool:
    """Whether the text has the form of a token."""
    return _PATTERN.fullmatch(text) is not None


async def look_up_token(connection: Connection, token: str) -> TokenState | None:
    """Find a presented token, and note its use, at most once a minute."""
    token_hash = _hash(token)
    cursor = await connection.execute(
        """
        SELECT id, name, scopes, token_hash,
               CASE WHEN revoked_at IS NOT NULL THEN 'revoked' WHEN expires_at <= now() THEN 'expired' END AS refusal,
               last_used_at IS NULL OR last_used_at < now() - interval '1 minute' AS is_use_stale
        FROM tokens WHERE token_hash = %s
        """,
        (token_hash,),
    )
    row = await cursor.fetchone()
    if row is None or not hmac.compare_digest(row["token_hash"], token_hash):
        return None
    if row["refusal"] is None and row["is_use_stale"]:
        await connection.execute(
            """
            UPDATE tokens SET last_used_at = now()
            WHERE id = %s AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
            """,
            (row["id"],),
        )
    return TokenState(id=row["id"], name=row["name"], scopes=frozenset(row["scopes"]), refusal=row["refusal"])


async def create_token(
    connection: Connection, *, name: str, scopes: Sequence[str], expires_at: datetime | None, actor: str
) -> tuple[str, dict[str, Any]]:
    """Make a token; the connection is inside a transaction.

    Returns:
        The token itself, which is nowhere stored, and its row.
    """
    token = "lfk_" + secrets.token_urlsafe(32)
    cursor = await connection.execute(
        f"""
        INSERT INTO tokens (id, name, token_hash, scopes, created_by, expires_at)
        VALUES (%s, %s, %s, %s, %s, %s) RETURNING {_FIELDS}
        """,
        (uuid4(), name, _hash(token), list(scopes), actor, expires_at),
    )
    (row,) = await cursor.fetchall()
    fields = ["name", "scopes", "expiresAt"]
    await record_change(
        connection, Change(object="token", id=row["id"], name=name, operation="create", fields=fields), actor=actor
    )
    return token, row


async def list_tokens(
    connection: Connection, *, limit: int, after: tuple[datetime, UUID] | None
) -> Page[dict[str, Any]]:
    """Tokens in the order they were created, from behind the key `after`; revoked ones too."""
    at, last_id = after or (None, None)
    cursor = await connection.execute(
        f"""
        SELECT {_FIELDS} FROM tokens
        WHERE %(at)s::timestamptz IS NULL OR (created_at, id) > (%(at)s, %(id)s)
        ORDER BY created_at, id LIMIT %(limit)s
        """,
        {"at": at, "id": last_id, "limit": limit + 1},
    )
    return page_of(await cursor.fetchall(), limit, lambda row: (row["created_at"], row["id"]))


async def revoke_token(connection: Connection, token_id: UUID, *, actor: str) -> None:
    """Revoke a token for good; the connection is inside a transaction. Repeating it changes nothing.

    Raises:
        NotFoundError: There is none with this id.
    """
    cursor = await connection.execute("SELECT name, revoked_at FROM tokens WHERE id = %s FOR UPDATE", (token_id,))
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"There is no token {token_id}.")
    if row["revoked_at"] is not None:
        return
    await connection.execute("UPDATE tokens SET revoked_at = now() WHERE id = %s", (token_id,))
    change = Change(object="token", id=token_id, name=row["name"], operation="delete")
    await record_change(connection, change, actor=actor)


def check_bootstrap_token(token: str) -> None:
    """Check the form of ``LATCHFLOW_BOOTSTRAP_TOKEN``.

    Raises:
        ConfigurationError: It is no token. The message never quotes it.
    """
    if not is_token(token):
        raise ConfigurationError(
            "LATCHFLOW_BOOTSTRAP_TOKEN is no token. Set it to lfk_ and 32 to 128 letters, digits, - or _, at random."
        )


async def ensure_bootstrap_token(connection: Connection, token: str) -> None:
    """Let the bootstrap token of the settings in, with every scope; the connection is inside a transaction.

    A changed one replaces the former. One that an admin revoked stays revoked until it is changed.

    Raises:
        ConfigurationError: It has not the form of a token, or another token is the same.
    """
    check_bootstrap_token(token)
    try:
        cursor = await connection.execute(
            """
            INSERT INTO tokens (id, name, token_hash, scopes, created_by) VALUES (%s, %s, %s, %s, 'settings')
            ON CONFLICT (id) DO UPDATE SET token_hash = EXCLUDED.token_hash, revoked_at = NULL
            WHERE tokens.token_hash <> EXCLUDED.token_hash
            RETURNING xmax = 0 AS is_new
            """,
            (_BOOTSTRAP_ID, _BOOTSTRAP, _hash(token), [ALL]),
        )
    except errors.UniqueViolation:
        raise ConfigurationError("LATCHFLOW_BOOTSTRAP_TOKEN is the same as another token. Choose a new one.") from None
    row = await cursor.fetchone()
    if row is not None:
        operation = "create" if row["is_new"] else "update"
        change = Change(
            object="token", id=_BOOTSTRAP_ID, name=_BOOTSTRAP, operation=operation, fields=["token", "scopes"]
        )
        await record_change(connection, change, actor="settings")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

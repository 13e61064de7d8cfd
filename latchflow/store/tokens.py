"""API tokens. Only a token's SHA-256 is stored."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import errors

from latchflow.errors import ConfigurationError, NotFoundError
from latchflow.scopes import ALL, ROLE_SCOPES, covers
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.database import Connection
from latchflow.store.pages import Page, page_of
from latchflow.store.visibility import Limits

_PATTERN = re.compile(r"lfk_[A-Za-z0-9_-]{32,128}")
_BOOTSTRAP_ID = UUID("5b0f6a52-7c55-5d0a-8c0e-62a1f4b0a001")
_BOOTSTRAP = "bootstrap"
_SETTINGS = "settings"
RESERVED_NAMES = frozenset({_BOOTSTRAP, _SETTINGS})
"""Actors of the audit that are not what somebody called a token."""
_FIELDS = "id, name, scopes, user_id, created_at, created_by, expires_at, last_used_at, revoked_at"


@dataclass(frozen=True, kw_only=True)
class TokenState:
    """A token that was presented and is known.

    Attributes:
        refusal: Why it may not be used: ``revoked``, ``expired`` or ``disabled``; None when it may.
        user_id: Whose personal token it is.
        owner_id: The user it is bound to: whose personal token it is, or was made with.
        limits: What of the events it sees; None: everything that its scopes let it.
    """

    id: UUID
    name: str
    scopes: frozenset[str]
    refusal: str | None
    user_id: UUID | None = None
    owner_id: UUID | None = None
    limits: Limits | None = None


def is_token(text: str) -> bool:
    """Whether the text has the form of a token."""
    return _PATTERN.fullmatch(text) is not None


async def look_up_token(connection: Connection, token: str) -> TokenState | None:
    """Find a presented token, and note its use, at most once a minute.

    What a personal token may do is read from its user each time, so that a change there holds from the next call on;
    and a token that was made with one may do no more than that user.
    """
    token_hash = _hash(token)
    cursor = await connection.execute(
        """
        SELECT t.id, t.name, t.scopes, t.token_hash, t.user_id, u.id AS owner_id, u.role, u.trigger_ids, u.pipeline_ids,
               CASE WHEN t.revoked_at IS NOT NULL THEN 'revoked'
                    WHEN t.expires_at <= now() THEN 'expired'
                    WHEN u.status <> 'ACTIVE' THEN 'disabled' END AS refusal,
               t.last_used_at IS NULL OR t.last_used_at < now() - interval '1 minute' AS is_use_stale
        FROM tokens t LEFT JOIN users u ON u.id = coalesce(t.user_id, t.owner_id) WHERE t.token_hash = %s
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
    limits = None
    if row["role"] == "EXECUTOR":
        limits = Limits(trigger_ids=row["trigger_ids"], pipeline_ids=row["pipeline_ids"])
    return TokenState(
        id=row["id"],
        name=row["name"],
        scopes=_effective(row),
        refusal=row["refusal"],
        user_id=row["user_id"],
        owner_id=row["owner_id"],
        limits=limits,
    )


def _effective(row: Mapping[str, Any]) -> frozenset[str]:
    if row["role"] is None:
        return frozenset(row["scopes"])
    allowed = ROLE_SCOPES[row["role"]]
    if row["user_id"] is not None or ALL in row["scopes"]:
        return frozenset(allowed)
    return frozenset(scope for scope in row["scopes"] if covers(allowed, scope))


async def create_token(
    connection: Connection,
    *,
    name: str,
    scopes: Sequence[str],
    expires_at: datetime | None,
    actor: str,
    owner_id: UUID | None,
) -> tuple[str, dict[str, Any]]:
    """Make a token; the connection is inside a transaction.

    Args:
        connection: Inside a transaction.
        name: The actor of what it does.
        scopes: What it may do.
        expires_at: When it ends by itself.
        actor: Who makes it.
        owner_id: The user who makes it, whose status and role bind it from now on.

    Returns:
        The token itself, which is nowhere stored, and its row.
    """
    token = new_token()
    cursor = await connection.execute(
        f"""
        INSERT INTO tokens (id, name, token_hash, scopes, created_by, expires_at, owner_id)
        VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING {_FIELDS}
        """,
        (uuid4(), name, _hash(token), list(scopes), actor, expires_at, owner_id),
    )
    (row,) = await cursor.fetchall()
    fields = ["name", "scopes", "expiresAt"]
    await record_change(
        connection, Change(object="token", id=row["id"], name=name, operation="create", fields=fields), actor=actor
    )
    return token, row


def new_token() -> str:
    """A token of 256 random bits."""
    return "lfk_" + secrets.token_urlsafe(32)


async def add_personal_token(connection: Connection, *, user_id: UUID, name: str) -> tuple[str, UUID]:
    """Make a token that is a user's own; its scopes are those of the user's role.

    Returns:
        The token itself, which is nowhere stored, and its id.
    """
    token, token_id = new_token(), uuid4()
    await connection.execute(
        "INSERT INTO tokens (id, name, token_hash, scopes, created_by, user_id) VALUES (%s, %s, %s, '{}', %s, %s)",
        (token_id, name, _hash(token), name, user_id),
    )
    return token, token_id


async def list_tokens(
    connection: Connection, *, limit: int, after: tuple[datetime, UUID] | None
) -> Page[dict[str, Any]]:
    """Tokens in the order they were created, from behind the key `after`; revoked ones too."""
    at, last_id = after or (None, None)
    cursor = await connection.execute(
        f"""
        SELECT {_FIELDS}, (SELECT role FROM users WHERE id = tokens.user_id) AS role FROM tokens
        WHERE %(at)s::timestamptz IS NULL OR (created_at, id) > (%(at)s, %(id)s)
        ORDER BY created_at, id LIMIT %(limit)s
        """,
        {"at": at, "id": last_id, "limit": limit + 1},
    )
    rows = [
        {**row, "scopes": list(ROLE_SCOPES[row["role"]])} if row["role"] else row for row in await cursor.fetchall()
    ]
    return page_of(rows, limit, lambda row: (row["created_at"], row["id"]))


async def scopes_of(connection: Connection, token_id: UUID) -> Sequence[str]:
    """The scopes of a token, which the transaction locks; of a personal one, those of its user's role.

    Raises:
        NotFoundError: There is none with this id.
    """
    cursor = await connection.execute(
        """
        SELECT t.scopes, (SELECT role FROM users WHERE id = t.user_id) AS role FROM tokens t
        WHERE t.id = %s FOR UPDATE
        """,
        (token_id,),
    )
    row = await cursor.fetchone()
    if row is None:
        raise _no_token(token_id)
    scopes: Sequence[str] = ROLE_SCOPES[row["role"]] if row["role"] else row["scopes"]
    return scopes


async def revoke_token(connection: Connection, token_id: UUID, *, actor: str) -> None:
    """Revoke a token for good; the connection is inside a transaction. Repeating it changes nothing.

    Raises:
        NotFoundError: There is none with this id.
    """
    cursor = await connection.execute("SELECT name, revoked_at FROM tokens WHERE id = %s FOR UPDATE", (token_id,))
    row = await cursor.fetchone()
    if row is None:
        raise _no_token(token_id)
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
            INSERT INTO tokens (id, name, token_hash, scopes, created_by) VALUES (%s, %s, %s, %s, %s)
            ON CONFLICT (id) DO UPDATE SET token_hash = EXCLUDED.token_hash, revoked_at = NULL
            WHERE tokens.token_hash <> EXCLUDED.token_hash
            RETURNING xmax = 0 AS is_new
            """,
            (_BOOTSTRAP_ID, _BOOTSTRAP, _hash(token), [ALL], _SETTINGS),
        )
    except errors.UniqueViolation:
        raise ConfigurationError("LATCHFLOW_BOOTSTRAP_TOKEN is the same as another token. Choose a new one.") from None
    row = await cursor.fetchone()
    if row is not None:
        operation = "create" if row["is_new"] else "update"
        change = Change(
            object="token", id=_BOOTSTRAP_ID, name=_BOOTSTRAP, operation=operation, fields=["token", "scopes"]
        )
        await record_change(connection, change, actor=_SETTINGS)


def _no_token(token_id: UUID) -> NotFoundError:
    return NotFoundError(f"There is no token {token_id}.")


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

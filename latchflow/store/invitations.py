"""Invitations: a link in a mail that makes an invited user an active one, once."""

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from latchflow.errors import ConflictError
from latchflow.model import AuditKind
from latchflow.sdk.users import Role
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.audit import AuditEntry, record
from latchflow.store.database import Connection
from latchflow.store.tokens import add_personal_token, is_token, new_token
from latchflow.store.users import StoredUser, add_user, find_user, get_user

GOOD_FOR = timedelta(days=7)
_SENDING_FOR = timedelta(minutes=2)
"""Whoever sends a mail has noted by then what became of it, or never will."""


@dataclass(frozen=True, kw_only=True)
class Issued:
    """A fresh invitation. Its token is nowhere stored."""

    id: UUID
    token: str


@dataclass(frozen=True, kw_only=True)
class Presented:
    """An invitation whose token somebody presented.

    Attributes:
        refusal: Why it opens nothing: ``disabled``, ``used``, ``revoked`` or ``expired``; None when it does.
    """

    id: UUID
    user_id: UUID
    email: str
    role: Role
    refusal: str | None


async def invite(
    connection: Connection, email: str, role: Role, *, effect_key: str, actor: str
) -> tuple[StoredUser, Issued | None]:
    """The user with an address, made when there is none, and an invitation if a mail has to go out.

    The connection is inside a transaction. An invited user gets another mail only when every mail so far surely was
    not sent, has expired, or belongs to an earlier attempt at this very effect, which must then know that it was not.

    Returns:
        No invitation for a user who needs no mail.

    Raises:
        ConflictError: Another invitation is being sent at this moment: whether it is needed shows when that has ended.
    """
    user = await add_user(connection, email, role, actor=actor)
    if user is None:
        found = await find_user(connection, email)
        assert found is not None  # noqa: S101 - users are never deleted
        user = await get_user(connection, found.id, lock=True)
        if user.status != "INVITED" or await _may_be_mailed(connection, user.id, effect_key):
            return user, None
    return user, await issue(connection, user, effect_key=effect_key, actor=actor)


async def issue(connection: Connection, user: StoredUser, *, effect_key: str | None = None, actor: str) -> Issued:
    """Make an invitation, which replaces the earlier ones of the user; inside a transaction that has the user locked.

    Args:
        connection: Inside a transaction.
        user: Whom to invite.
        effect_key: Of its mail; None makes one of its own.
        actor: Who invites.
    """
    await connection.execute(
        "UPDATE invitations SET revoked_at = now() WHERE user_id = %s AND revoked_at IS NULL AND accepted_at IS NULL",
        (user.id,),
    )
    invitation = Issued(id=uuid4(), token=new_token())
    await connection.execute(
        """
        INSERT INTO invitations (id, user_id, token_hash, effect_key, created_by, expires_at)
        VALUES (%s, %s, %s, %s, %s, now() + %s)
        """,
        (invitation.id, user.id, _hash(invitation.token), effect_key or f"invitation/{invitation.id}", actor, GOOD_FOR),
    )
    change = Change(object="invitation", id=invitation.id, name=user.email, operation="create")
    await record_change(connection, change, actor=actor)
    return invitation


async def note_mail(connection: Connection, invitation_id: UUID, mail: str, problem: str | None = None) -> None:
    """Say what became of an invitation's mail: ``sent``, ``failed`` or ``unknown``."""
    await connection.execute(
        "UPDATE invitations SET mail = %s, problem = %s WHERE id = %s", (mail, problem, invitation_id)
    )


async def note_found(connection: Connection, user_id: UUID, effect_key: str) -> None:
    """Say that the mail of an effect was sent after all, as its provider knows."""
    await connection.execute(
        """
        UPDATE invitations SET mail = 'sent', problem = NULL
        WHERE user_id = %s AND effect_key = %s AND revoked_at IS NULL
        """,
        (user_id, effect_key),
    )


async def look_up(connection: Connection, token: str) -> Presented | None:
    """The invitation of a token; changes nothing."""
    return await _read(connection, token) if is_token(token) else None


async def accept(connection: Connection, token: str) -> tuple[Presented, str | None] | None:
    """Accept an invitation: its user becomes ACTIVE and gets a personal token; inside a transaction.

    Earlier personal tokens of the user end, so a further invitation also replaces a token that was lost.

    Returns:
        The invitation as it was and the new token, which is nowhere stored; no token for an invitation that opens
        nothing. None when there is no such invitation.
    """
    found = await look_up(connection, token)
    if found is None:
        return None
    # The user's row comes first everywhere, so that nobody waits for the other way round.
    user = await get_user(connection, found.user_id, lock=True)
    invitation = await _read(connection, token)
    if invitation is None or invitation.refusal is not None:
        return invitation or found, None
    await connection.execute("UPDATE invitations SET accepted_at = now() WHERE id = %s", (invitation.id,))
    await connection.execute("UPDATE users SET status = 'ACTIVE', updated_at = now() WHERE id = %s", (user.id,))
    await connection.execute(
        "UPDATE tokens SET revoked_at = now() WHERE user_id = %s AND revoked_at IS NULL", (user.id,)
    )
    personal, token_id = await add_personal_token(connection, user_id=user.id, name=user.email)
    detail = {
        "operation": "accept",
        "invitationId": str(invitation.id),
        "userId": str(user.id),
        "tokenId": str(token_id),
    }
    await record(connection, AuditEntry(kind=AuditKind.AUTH, actor=user.email, detail=detail))
    return invitation, personal


async def _may_be_mailed(connection: Connection, user_id: UUID, effect_key: str) -> bool:
    cursor = await connection.execute(
        """
        SELECT mail = 'sending' AND created_at > clock_timestamp() - %s::interval AS is_under_way FROM invitations
        WHERE user_id = %s AND mail <> 'failed' AND effect_key <> %s AND expires_at > now()
        """,
        (_SENDING_FOR, user_id, effect_key),
    )
    mails = await cursor.fetchall()
    if mails and all(mail["is_under_way"] for mail in mails):
        raise ConflictError("Another invitation of this user is being sent, and may fail. Try again shortly.")
    return bool(mails)


async def _read(connection: Connection, token: str) -> Presented | None:
    cursor = await connection.execute(
        """
        SELECT i.id, i.user_id, u.email, u.role,
               CASE WHEN u.status = 'DISABLED' THEN 'disabled'
                    WHEN i.accepted_at IS NOT NULL THEN 'used'
                    WHEN i.revoked_at IS NOT NULL THEN 'revoked'
                    WHEN i.expires_at <= now() THEN 'expired' END AS refusal
        FROM invitations i JOIN users u ON u.id = i.user_id WHERE i.token_hash = %s
        """,
        (_hash(token),),
    )
    row: dict[str, Any] | None = await cursor.fetchone()
    return Presented(**row) if row else None


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

"""Users: who they are and what they may see. An address is one user, however its letters are written."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from psycopg import sql

from latchflow.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from latchflow.sdk.users import Role, UserStatus
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.database import Connection
from latchflow.store.pages import Page, page_of


@dataclass(frozen=True, kw_only=True)
class InvitationState:
    """The last invitation of a user.

    Attributes:
        mail: ``sending`` (or cut off in the middle), ``sent``, ``failed``, or ``unknown``: it may have been sent.
        problem: Why it failed.
    """

    mail: str
    problem: str | None
    created_at: datetime
    expires_at: datetime
    accepted_at: datetime | None
    revoked_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class StoredUser:
    """A user.

    Attributes:
        trigger_ids: Of an EXECUTOR: the triggers whose events it sees.
        pipeline_ids: Of an EXECUTOR: the pipelines whose events it sees.
    """

    id: UUID
    email: str
    role: Role
    status: UserStatus
    trigger_ids: Sequence[UUID]
    pipeline_ids: Sequence[UUID]
    created_at: datetime
    created_by: str
    updated_at: datetime
    invitation: InvitationState | None


_SELECT = """
    SELECT u.*, i.mail, i.problem, i.created_at AS invited_at, i.expires_at, i.accepted_at, i.revoked_at
    FROM users u LEFT JOIN LATERAL (
        SELECT * FROM invitations WHERE user_id = u.id ORDER BY created_at DESC LIMIT 1
    ) i ON true
"""


async def get_user(connection: Connection, user_id: UUID, *, lock: bool = False) -> StoredUser:
    """One user.

    Args:
        connection: Inside a transaction when `lock` is set.
        user_id: Which one.
        lock: Keep others from changing it, or accepting its invitations, until the transaction ends.

    Raises:
        NotFoundError: There is none with this id.
    """
    if lock:
        await connection.execute("SELECT FROM users WHERE id = %s FOR UPDATE", (user_id,))
    row = await (await connection.execute(f"{_SELECT} WHERE u.id = %s", (user_id,))).fetchone()
    if row is None:
        raise NotFoundError(f"There is no user {user_id}.")
    return _user(row)


async def find_user(connection: Connection, email: str) -> StoredUser | None:
    """The user with an address."""
    row = await (
        await connection.execute(f"""{_SELECT} WHERE lower(u.email) COLLATE "C" = lower(%s)""", (email,))
    ).fetchone()
    return _user(row) if row else None


async def list_users(connection: Connection, *, limit: int, after: str | None) -> Page[StoredUser]:
    """Users by address, from behind the address `after`."""
    cursor = await connection.execute(
        f"""
        {_SELECT}
        WHERE %(after)s::text IS NULL OR lower(u.email) COLLATE "C" > lower(%(after)s)
        ORDER BY lower(u.email) COLLATE "C" LIMIT %(limit)s
        """,
        {"after": after, "limit": limit + 1},
    )
    return page_of([_user(row) for row in await cursor.fetchall()], limit, lambda user: user.email.lower())


async def add_user(
    connection: Connection,
    email: str,
    role: Role,
    *,
    actor: str,
    trigger_ids: Sequence[UUID] = (),
    pipeline_ids: Sequence[UUID] = (),
) -> StoredUser | None:
    """Make a user who is invited; the connection is inside a transaction.

    Returns:
        None when the address has a user: made by somebody else at this very moment, too.

    Raises:
        InvalidInputError: A trigger or a pipeline does not exist.
    """
    await _check_limits(connection, {"trigger_ids": trigger_ids, "pipeline_ids": pipeline_ids})
    cursor = await connection.execute(
        """
        INSERT INTO users (id, email, role, status, trigger_ids, pipeline_ids, created_by)
        VALUES (%s, %s, %s, 'INVITED', %s, %s, %s) ON CONFLICT DO NOTHING RETURNING id
        """,
        (uuid4(), email, role, list(trigger_ids), list(pipeline_ids), actor),
    )
    row = await cursor.fetchone()
    if row is None:
        return None
    user = await get_user(connection, row["id"])
    fields = ["email", "role", "trigger_ids", "pipeline_ids"]
    await record_change(connection, _change(user, "create", fields), actor=actor)
    return user


async def change_user(
    connection: Connection, current: StoredUser, changes: Mapping[str, Any], *, actor: str
) -> StoredUser:
    """Change ``role``, ``status``, ``trigger_ids`` or ``pipeline_ids`` of a user that is locked.

    Who is disabled loses all tokens, those made with them, and open invitations in the same transaction.

    Raises:
        ConflictError: The status cannot follow the present one.
        InvalidInputError: A trigger or a pipeline does not exist.
    """
    differing = {name: value for name, value in changes.items() if value != getattr(current, name)}
    if not differing:
        return current
    await _check_limits(connection, differing)
    if "status" in differing:
        await _check_status(connection, current, differing["status"])
    assignments = [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in differing]
    statement = sql.SQL("UPDATE users SET {}, updated_at = now() WHERE id = %(id)s")
    await connection.execute(statement.format(sql.SQL(", ").join(assignments)), {**differing, "id": current.id})
    if differing.get("status") == "DISABLED":
        for table, column in (("tokens", "user_id"), ("tokens", "owner_id"), ("invitations", "user_id")):
            revoke = sql.SQL("UPDATE {} SET revoked_at = now() WHERE {} = %s AND revoked_at IS NULL")
            await connection.execute(revoke.format(sql.Identifier(table), sql.Identifier(column)), (current.id,))
    await record_change(connection, _change(current, "update", list(differing)), actor=actor)
    return await get_user(connection, current.id)


async def _check_status(connection: Connection, user: StoredUser, status: str) -> None:
    if status == "DISABLED":
        return
    if status == "INVITED" and user.status == "ACTIVE":
        raise ConflictError("An ACTIVE user has accepted already. DISABLED shuts them out.")
    accepted = "SELECT EXISTS (SELECT FROM invitations WHERE user_id = %s AND accepted_at IS NOT NULL) AS ever"
    row = await (await connection.execute(accepted, (user.id,))).fetchone()
    if status == "ACTIVE" and not (row and row["ever"]):
        raise ConflictError("Only the user becomes ACTIVE, by accepting an invitation. Set INVITED and invite again.")


async def _check_limits(connection: Connection, values: Mapping[str, Any]) -> None:
    faults = []
    for name, table, noun in (
        ("trigger_ids", "trigger_definitions", "trigger"),
        ("pipeline_ids", "pipelines", "pipeline"),
    ):
        ids = list(values.get(name) or ())
        statement = sql.SQL("SELECT id FROM {} WHERE id = ANY(%s)").format(sql.Identifier(table))
        known = {row["id"] for row in await (await connection.execute(statement, (ids,))).fetchall()}
        faults += [
            FieldError(pointer=f"/{noun}Ids/{place}", message=f"There is no {noun} with this id.")
            for place, identifier in enumerate(ids)
            if identifier not in known
        ]
    if faults:
        raise InvalidInputError("The user cannot be limited to what does not exist.", faults)


def _change(user: StoredUser, operation: str, fields: Sequence[str]) -> Change:
    return Change(object="user", id=user.id, name=user.email, operation=operation, fields=fields)


def _user(row: dict[str, Any]) -> StoredUser:
    invitation = InvitationState(
        mail=row.pop("mail"),
        problem=row.pop("problem"),
        created_at=row.pop("invited_at"),
        expires_at=row.pop("expires_at"),
        accepted_at=row.pop("accepted_at"),
        revoked_at=row.pop("revoked_at"),
    )
    return StoredUser(**row, invitation=invitation if invitation.mail else None)

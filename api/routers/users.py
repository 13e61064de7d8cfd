"""``/admin/users``."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import Path, Request

from api.auth import Caller, deny, requires
from api.context import ContextDep
from api.paging import Cursor, Limit, decode_cursor, encode_cursor
from api.routing import admin_router
from api.schemas.conventions import Listing
from api.schemas.users import User, UserCreate, UserPatch
from latchflow.errors import FieldError, InvalidInputError
from latchflow.scopes import ROLE_SCOPES, covers
from latchflow.services.users import NewUser
from latchflow.store import users
from latchflow.store.users import StoredUser

router = admin_router("/admin/users", "users")

Reader = Annotated[Caller, requires("users:read")]
Writer = Annotated[Caller, requires("users:write")]
UserId = Annotated[UUID, Path(alias="userId")]

_LISTING = "users"


@router.get("", summary="List users", operation_id="listUsers")
async def list_users(context: ContextDep, _: Reader, limit: Limit = 50, cursor: Cursor = None) -> Listing[User]:
    """By address, each with its last invitation."""
    key = decode_cursor(_LISTING, cursor)
    async with context.database.connection() as connection:
        page = await users.list_users(connection, limit=limit, after=key[0] if key else None)
    return Listing(items=list(map(_user, page.items)), next_cursor=encode_cursor(_LISTING, page.next_key))


@router.post("", summary="Create a user", operation_id="createUser", status_code=201)
async def create_user(context: ContextDep, caller: Writer, body: UserCreate, request: Request) -> User:
    """Sends the invitation. Where the mail cannot be sent, the user is there, and `invitation` says why."""
    await _check_role(request, caller, body.role)
    new = NewUser(
        email=body.email,
        role=body.role,
        trigger_ids=_each_once(body.trigger_ids),
        pipeline_ids=_each_once(body.pipeline_ids),
    )
    return _user(await context.users.create(new, actor=caller.name))


@router.patch("/{userId}", summary="Change a user", operation_id="changeUser")
async def change_user(context: ContextDep, caller: Writer, user_id: UserId, body: UserPatch, request: Request) -> User:
    """What a personal token may do follows at once; who is DISABLED loses all of them and open invitations."""
    changes = body.given()
    async with context.database.transaction() as connection:
        current = await users.get_user(connection, user_id, lock=True)
        lacking = _lacking(caller, current.role) or _lacking(caller, changes.get("role", current.role))
        if lacking is None:
            changed = await users.change_user(connection, current, _consistent(current, changes), actor=caller.name)
    if lacking is not None:  # audited on a connection of its own: not while this one holds the user's row
        await deny(request, caller, lacking)
    return _user(changed)


@router.post("/{userId}/invitation", summary="Invite a user again", operation_id="inviteUserAgain", status_code=201)
async def invite_user_again(context: ContextDep, caller: Writer, user_id: UserId, request: Request) -> User:
    """Replaces the former invitation. Accepting it also replaces the personal token of a user who is ACTIVE."""
    async with context.database.connection() as connection:
        current = await users.get_user(connection, user_id)
    await _check_role(request, caller, current.role)
    return _user(await context.users.invite_again(user_id, actor=caller.name))


async def _check_role(request: Request, caller: Caller, role: str) -> None:
    lacking = _lacking(caller, role)
    if lacking is not None:
        await deny(request, caller, lacking)


def _lacking(caller: Caller, role: str) -> str | None:
    """Nobody makes, changes or invites a user who may do more than they do."""
    return next((scope for scope in ROLE_SCOPES[role] if not covers(caller.scopes, scope)), None)


def _consistent(current: StoredUser, changes: dict[str, Any]) -> dict[str, Any]:
    for name in ("trigger_ids", "pipeline_ids"):
        if name in changes:
            changes[name] = _each_once(changes[name])
    if changes.get("role", current.role) == "EXECUTOR":
        return changes
    faults = [
        FieldError(pointer=pointer, message="An ADMIN sees everything. Leave it out.")
        for name, pointer in (("trigger_ids", "/triggerIds"), ("pipeline_ids", "/pipelineIds"))
        if changes.get(name)
    ]
    if faults:
        raise InvalidInputError("An ADMIN cannot be limited.", faults)
    return {**changes, "trigger_ids": [], "pipeline_ids": []}


def _each_once(ids: list[UUID]) -> list[UUID]:
    return list(dict.fromkeys(ids))


def _user(user: StoredUser) -> User:
    return User.model_validate(user)

"""Users: invited by plugins through the guard, and by admins through the API."""

import asyncio
import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from latchflow.errors import ConflictError, FieldError, InvalidInputError, NotFoundError, UnavailableError
from latchflow.sdk import EmailAddress, ServiceError, User, UserPage
from latchflow.sdk.users import Role
from latchflow.services.email_message import check_address
from latchflow.services.handover import Handover
from latchflow.services.invitation_mail import InvitationMail, Mailer, OwnEffect
from latchflow.store import invitations
from latchflow.store.database import Database
from latchflow.store.invitations import Issued
from latchflow.store.users import StoredUser, add_user, find_user, get_user, list_users

_MAIL_SECONDS = 25.0
"""An admin's call waits for the mail so long."""
_LARGEST_PAGE = 200


@dataclass(frozen=True, kw_only=True)
class NewUser:
    """A user that an admin makes."""

    email: str
    role: Role
    trigger_ids: Sequence[UUID] = ()
    pipeline_ids: Sequence[UUID] = ()


class Users:
    """Implements `latchflow.runtime.guard.UserBackend`, and what the API does with users.

    Args:
        database: Where they are.
        mailer: Sends the invitations.
        public_url: Where people reach the API; empty: nobody can be invited.
    """

    def __init__(self, database: Database, mailer: Mailer, *, public_url: str) -> None:
        self._database = database
        self._mail = InvitationMail(database, mailer, public_url=public_url)

    async def invite(self, email: str, *, role: Role, effect: Handover, deadline: datetime, actor: str) -> User:
        """The user with an address, invited by mail unless a mail to them was or may have been sent before.

        User and invitation are one transaction, which is committed before the mail goes out. Whatever ends the
        process in between, the next attempt at the same effect finds the user, replaces the invitation, whose token
        nobody has, and sends the mail, unless the ledger says that a provider may have it.

        Raises:
            ServiceError: As `latchflow.sdk.UserService.invite`.
        """
        address = _checked(email)
        if self._mail.fault is not None:
            raise ServiceError("fatal", self._mail.fault)
        try:
            async with self._database.transaction() as connection:
                user, invitation = await invitations.invite(
                    connection, address, role, effect_key=effect.key, actor=actor
                )
        except (ConflictError, UnavailableError) as error:
            raise ServiceError("retryable", error.message) from error
        if invitation is not None:
            await self._mail.send(user, invitation, effect=effect, deadline=deadline)
        return _shown(user)

    async def find_invited(
        self, email: str, *, idempotency_key: str, via: str | None, deadline: datetime
    ) -> User | None:
        """The user whom an effect that was cut off invited; None when its mail surely was not sent.

        Raises:
            ServiceError: ``outcome_unknown``: nobody can say; ``retryable``: nobody can say now.
        """
        try:
            async with self._database.connection() as connection:
                user = await find_user(connection, _checked(email))
            if user is None or not await self._mail.was_sent(
                user, effect_key=idempotency_key, via=via, deadline=deadline
            ):
                return None
        except UnavailableError as error:
            raise ServiceError("retryable", error.message) from error
        return _shown(user)

    async def get(self, user_id: UUID) -> User:
        """One user. Raises as `latchflow.sdk.UserService.get`."""
        try:
            async with self._database.connection() as connection:
                return _shown(await get_user(connection, user_id))
        except NotFoundError as error:
            raise ServiceError("not_found", error.message) from None
        except UnavailableError as error:
            raise ServiceError("retryable", error.message) from error

    async def list(self, *, limit: int, cursor: str | None) -> UserPage:
        """Users by address. Raises as `latchflow.sdk.UserService.list`."""
        if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _LARGEST_PAGE:
            raise ServiceError("validation", f"The limit is no whole number from 1 to {_LARGEST_PAGE}.")
        after = None if cursor is None else _read_cursor(cursor)
        try:
            async with self._database.connection() as connection:
                page = await list_users(connection, limit=limit, after=after)
        except UnavailableError as error:
            raise ServiceError("retryable", error.message) from error
        following = None if page.next_key is None else base64.urlsafe_b64encode(page.next_key.encode()).decode()
        return UserPage(items=tuple(map(_shown, page.items)), next_cursor=following)

    async def create(self, new: NewUser, *, actor: str) -> StoredUser:
        """Make a user for an admin and invite them; how the mail went shows in the user's invitation.

        Raises:
            InvalidInputError: The address is none, or a limit names what does not exist.
            ConflictError: There is such a user, or no link can be made.
        """
        self._require_link()
        try:
            address = _checked(new.email)
        except ServiceError as error:
            fault = FieldError(pointer="/email", message=str(error))
            raise InvalidInputError("The user cannot be made.", [fault]) from None
        async with self._database.transaction() as connection:
            user = await add_user(
                connection,
                address,
                new.role,
                actor=actor,
                trigger_ids=new.trigger_ids,
                pipeline_ids=new.pipeline_ids,
            )
            if user is None:
                raise ConflictError(f"There is already a user with the address {address}.")
            invitation = await invitations.issue(connection, user, actor=actor)
        return await self._mailed(user, invitation)

    async def invite_again(self, user_id: UUID, *, actor: str) -> StoredUser:
        """Replace a user's invitation for an admin and send it; a user who is ACTIVE gets a new token by it.

        Raises:
            NotFoundError: There is none with this id.
            ConflictError: The user is disabled, or no link can be made.
        """
        self._require_link()
        async with self._database.transaction() as connection:
            user = await get_user(connection, user_id, lock=True)
            if user.status == "DISABLED":
                raise ConflictError("This user is DISABLED. Change the status first.")
            invitation = await invitations.issue(connection, user, actor=actor)
        return await self._mailed(user, invitation)

    def _require_link(self) -> None:
        if self._mail.fault is not None:
            raise ConflictError(self._mail.fault)

    async def _mailed(self, user: StoredUser, invitation: Issued) -> StoredUser:
        deadline = datetime.now(UTC) + timedelta(seconds=_MAIL_SECONDS)
        try:
            async with asyncio.timeout(_MAIL_SECONDS):
                effect = OwnEffect(key=f"invitation/{invitation.id}")
                await self._mail.send(user, invitation, effect=effect, deadline=deadline)
        except (ServiceError, TimeoutError):
            pass  # It is noted with the invitation, and the answer says so.
        async with self._database.connection() as connection:
            return await get_user(connection, user.id)


def _checked(email: object) -> str:
    if not isinstance(email, str):
        raise ServiceError("validation", "The address is no text.")
    check_address(EmailAddress(address=email))
    return str(email)


def _shown(user: StoredUser) -> User:
    return User(id=user.id, email=user.email, role=user.role, status=user.status)


def _read_cursor(cursor: object) -> str:
    try:
        after = base64.b64decode(str(cursor), altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        after = ""
    if not after or "\0" in after:
        raise ServiceError("validation", "This cursor is none that was handed out.")
    return after

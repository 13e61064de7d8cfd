"""The users of the deployment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol
from uuid import UUID

Role = Literal["ADMIN", "EXECUTOR"]
UserStatus = Literal["INVITED", "ACTIVE", "DISABLED"]


@dataclass(frozen=True, kw_only=True)
class User:
    """A user.

    Attributes:
        status: ``INVITED`` until the invitation is accepted, then ``ACTIVE``; ``DISABLED`` by an admin.
    """

    id: UUID
    email: str
    role: Role
    status: UserStatus


@dataclass(frozen=True, kw_only=True)
class UserPage:
    """A part of the users, by address.

    Attributes:
        next_cursor: Pass it to get the next part; None at the end.
    """

    items: Sequence[User]
    next_cursor: str | None = None


class UserService(Protocol):
    """User administration."""

    async def invite(
        self,
        email: str,
        *,
        role: Role = "EXECUTOR",
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("users:write",),
    ) -> User:
        """Send an invitation by mail; whoever accepts it gets a token. A user who is there already gets no second mail.

        Raises:
            ServiceError: ``denied`` without the scope, and for the role ADMIN, which no plugin may give;
                ``validation`` for a bad address; what `EmailService.send` raises.
        """
        ...

    async def get(
        self,
        user_id: UUID | str,
        *,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("users:read",),
    ) -> User:
        """One user.

        Raises:
            ServiceError: ``denied`` without the scope, ``not_found``.
        """
        ...

    async def list(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("users:read",),
    ) -> UserPage:
        """Users by address, 200 at most at once.

        Raises:
            ServiceError: ``denied`` without the scope, ``validation`` for a bad cursor or limit.
        """
        ...

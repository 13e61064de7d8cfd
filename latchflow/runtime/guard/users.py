"""Users behind the guard."""

from collections.abc import Sequence
from uuid import UUID

from pydantic import TypeAdapter

from latchflow.runtime.guard.arguments import actor_of, id_of, number_of, optional_text_of, scopes_of, text_of
from latchflow.runtime.guard.backends import UserBackend
from latchflow.runtime.guard.grant import Asked, Effect, Grant, Handle
from latchflow.sdk import ServiceError, User, UserPage
from latchflow.sdk.users import Role

_USER = TypeAdapter(User)


class GuardedUsers:
    """`latchflow.sdk.UserService` for one attempt."""

    def __init__(self, backend: UserBackend, grant: Grant, actor: str) -> None:
        self._backend = backend
        self._grant = grant
        self._actor = actor

    async def invite(
        self,
        email: str,
        *,
        role: Role = "EXECUTOR",
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("users:write",),
    ) -> User:
        """Invite, once for all attempts."""
        scopes = scopes_of("users:write", requested_scopes)
        address, asked_role = text_of(email, "The address"), text_of(role, "The role")
        detail = {"role": asked_role[:20]}
        asked = Asked(service="users.invite", scopes=scopes, actor_id=actor_of(actor_id), detail=detail)

        async def refuse() -> User:
            raise ServiceError("denied", "A plugin may invite EXECUTOR only. Let an admin invite an ADMIN.")

        if asked_role != "EXECUTOR":
            return await self._grant.watch(asked, refuse)

        deadline = self._grant.cutoff

        async def find(key: str, via: str | None) -> User | None:
            return await self._backend.find_invited(address, idempotency_key=key, via=via, deadline=deadline)

        async def work(effect: Handle) -> User:
            return await self._backend.invite(
                address, role="EXECUTOR", effect=effect, deadline=deadline, actor=self._actor
            )

        # A repetition finds the user there, and sends its mail only if the first one surely was not sent.
        return await self._grant.effect(asked, Effect(target=address, result=_USER, find=find), work)

    async def get(
        self,
        user_id: UUID | str,
        *,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("users:read",),
    ) -> User:
        """One user."""
        user = id_of(user_id, "user")
        scopes = scopes_of("users:read", requested_scopes)
        asked = Asked(service="users.get", scopes=scopes, actor_id=actor_of(actor_id), detail={"userId": str(user)})
        return await self._grant.watch(asked, lambda: self._backend.get(user))

    async def list(
        self,
        *,
        limit: int = 50,
        cursor: str | None = None,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("users:read",),
    ) -> UserPage:
        """Users by address."""
        scopes = scopes_of("users:read", requested_scopes)
        asked = Asked(service="users.list", scopes=scopes, actor_id=actor_of(actor_id), detail={})
        size, after = number_of(limit, "limit"), optional_text_of(cursor, "cursor")
        return await self._grant.watch(asked, lambda: self._backend.list(limit=size, cursor=after))

"""Who calls, and what the caller may do."""

from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer
from starlette.types import Scope

from api.bounded_audit import denied_call
from api.context import Context
from api.errors import ForbiddenError, UnauthorizedError
from latchflow.scopes import covers
from latchflow.store.audit import calling
from latchflow.store.tokens import TokenState, is_token, look_up_token
from latchflow.store.visibility import Limits

PUBLIC_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs"})
PUBLIC_PREFIXES = ("/hooks/", "/callbacks/", "/codec/ui/", "/invitations/", "/release/")

_CALLER = "latchflow.caller"
_REFUSALS = {
    "missing": "This call needs a token: Authorization: Bearer lfk_….",
    "malformed": "The Authorization header is not of the form: Bearer lfk_….",
    "unknown": "This token is not known here.",
    "revoked": "This token was revoked.",
    "expired": "This token has expired.",
    "disabled": "The user of this token is disabled.",
}

bearer = HTTPBearer(auto_error=False, description="A token `lfk_…` of this server.", scheme_name="token")


@dataclass(frozen=True, kw_only=True)
class Caller:
    """The token a call came with.

    Attributes:
        name: The token's name, a user's address for a personal one; the actor of what the call does.
        user_id: Whose personal token it is.
        owner_id: The user it is bound to; tokens that it makes are, too.
        limits: The events it sees; None: all of them. Every query for a caller with ``events:…`` takes them.
    """

    name: str
    token_id: UUID
    scopes: frozenset[str]
    user_id: UUID | None = None
    owner_id: UUID | None = None
    limits: Limits | None = None


def is_public(path: str) -> bool:
    """Whether a path needs no token of ours."""
    return path in PUBLIC_PATHS or path.startswith(PUBLIC_PREFIXES)


async def authenticate(scope: Scope) -> None:
    """Find out who calls and keep it in the ASGI scope; a refused call is audited.

    Raises:
        UnauthorizedError: No token, or none that is good.
        UnavailableError: The database cannot be asked.
    """
    context: Context = scope["app"].state.context
    values = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    state: TokenState | None = None
    if not values:
        refusal: str | None = "missing"
    else:
        scheme, _, token = values[0].partition(" ")
        token = token.strip()
        if len(values) > 1 or scheme.lower() != "bearer" or not is_token(token):
            refusal = "malformed"
        else:
            async with context.database.connection() as connection:
                state = await look_up_token(connection, token)
            refusal = "unknown" if state is None else state.refusal
    if state is not None:
        calling.set(_identity(state))
    if state is None or refusal is not None:
        reason = refusal or "unknown"
        actor = state.name if state else None
        entry = denied_call(reason=reason, method=scope["method"], path=_path(scope), actor=actor)
        await context.denials.record(entry)
        raise UnauthorizedError(_REFUSALS[reason])
    scope[_CALLER] = Caller(
        name=state.name,
        token_id=state.id,
        scopes=state.scopes,
        user_id=state.user_id,
        owner_id=state.owner_id,
        limits=state.limits,
    )


def _identity(state: TokenState) -> dict[str, str]:
    identity = {"tokenId": str(state.id)}
    if state.owner_id is not None:
        identity["userId"] = str(state.owner_id)
    return identity


class Requires:
    """A dependency: the caller, who holds this scope."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted

    async def __call__(self, request: Request, _: Annotated[object, Security(bearer)] = None) -> Caller:
        """Check the scope; a refused call is audited.

        Raises:
            ForbiddenError: The token lacks the scope.
        """
        return await self.check(request)

    async def check(self, request: Request) -> Caller:
        """As calling it, for routes that check before they read the body."""
        caller = request.scope.get(_CALLER)
        if not isinstance(caller, Caller):
            raise UnauthorizedError(_REFUSALS["missing"])
        if not covers(caller.scopes, self.wanted):
            await deny(request, caller, self.wanted)
        return caller


async def deny(request: Request, caller: Caller, wanted: str) -> None:
    """Refuse a call for want of a scope, and audit it.

    Raises:
        ForbiddenError: Always.
    """
    context: Context = request.app.state.context
    entry = denied_call(
        reason="scope", method=request.method, path=_path(request.scope), actor=caller.name, scope=wanted
    )
    await context.denials.record(entry)
    raise ForbiddenError(f"The token {caller.name!r} lacks the scope {wanted}.")


def requires(wanted: str) -> Any:
    """Marks an endpoint's parameter as the caller, who must hold this scope.

    Write ``caller: Annotated[Caller, requires("events:read")]``.
    """
    return Depends(Requires(wanted))


def _path(scope: Scope) -> str:
    """The path as sent, still percent-encoded: whatever stands in it is then plain ASCII."""
    raw = scope.get("raw_path") or scope["path"].encode("utf-8", "surrogatepass")
    return bytes(raw).decode("ascii", "backslashreplace").replace("\x00", "\\x00")

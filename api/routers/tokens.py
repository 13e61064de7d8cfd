"""``/admin/tokens``."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Request

from api.auth import Caller, deny, requires
from api.context import ContextDep
from api.paging import Cursor, Limit, decode_time_cursor, encode_cursor
from api.routing import admin_router
from api.schemas.conventions import Listing
from api.schemas.tokens import CreatedToken, Token, TokenCreate
from latchflow.scopes import covers
from latchflow.store import tokens

router = admin_router("/admin/tokens", "tokens")

Reader = Annotated[Caller, requires("users:read")]
Writer = Annotated[Caller, requires("users:write")]
TokenId = Annotated[UUID, Path(alias="tokenId")]

_LISTING = "tokens"


@router.get("", summary="List tokens", operation_id="listTokens")
async def list_tokens(context: ContextDep, _: Reader, limit: Limit = 50, cursor: Cursor = None) -> Listing[Token]:
    """In the order they were created, revoked ones too; never the tokens themselves."""
    after = decode_time_cursor(_LISTING, cursor)
    async with context.database.connection() as connection:
        page = await tokens.list_tokens(connection, limit=limit, after=after)
    items = [Token.model_validate(row) for row in page.items]
    return Listing(items=items, next_cursor=encode_cursor(_LISTING, page.next_key))


@router.post("", summary="Create a token", operation_id="createToken", status_code=201)
async def create_token(context: ContextDep, caller: Writer, body: TokenCreate, request: Request) -> CreatedToken:
    """The answer shows the token this once. Only scopes that the caller's own token holds can be given."""
    for scope in body.scopes:
        if not covers(caller.scopes, scope):
            await deny(request, caller, scope)
    scopes = list(dict.fromkeys(body.scopes))
    async with context.database.transaction() as connection:
        token, row = await tokens.create_token(
            connection,
            name=body.name,
            scopes=scopes,
            expires_at=body.expires_at,
            actor=caller.name,
            owner_id=caller.owner_id,
        )
    return CreatedToken.model_validate({**row, "token": token})


@router.delete("/{tokenId}", summary="Revoke a token", operation_id="revokeToken", status_code=204)
async def revoke_token(context: ContextDep, caller: Writer, token_id: TokenId, request: Request) -> None:
    """For good, from the next call on. Only a token whose scopes the caller's own token holds can be revoked."""
    async with context.database.transaction() as connection:
        scopes = await tokens.scopes_of(connection, token_id)
        lacking = next((scope for scope in scopes if not covers(caller.scopes, scope)), None)
        if lacking is None:
            await tokens.revoke_token(connection, token_id, actor=caller.name)
    if lacking is not None:  # audited outside of the transaction, which needs no second connection this way
        await deny(request, caller, lacking)

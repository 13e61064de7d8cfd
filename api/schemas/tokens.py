"""API tokens."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator, Field

from api.schemas.conventions import Answer, Body, Name, Time
from latchflow.scopes import TOKEN_SCOPES
from latchflow.store.tokens import RESERVED_NAMES


def _known_scope(scope: str) -> str:
    if scope not in TOKEN_SCOPES:
        raise ValueError(f"There is no such scope. The scopes are: {', '.join(TOKEN_SCOPES)}.")
    return scope


def _in_the_future(moment: datetime) -> datetime:
    if moment <= datetime.now(UTC):
        raise ValueError("This time has passed.")
    return moment


def _nobody_elses(name: str) -> str:
    if "@" in name:
        raise ValueError("Only users are called by addresses. Choose a name without @.")
    if name.strip().lower() in RESERVED_NAMES:
        raise ValueError("This name stands for something else in the audit. Choose another.")
    return name


class TokenCreate(Body):
    """A new token."""

    name: Annotated[Name, AfterValidator(_nobody_elses)]
    scopes: Annotated[list[Annotated[str, AfterValidator(_known_scope)]], Field(min_length=1, max_length=50)]
    expires_at: Annotated[Time, AfterValidator(_in_the_future)] | None = None


class Token(Answer):
    """A token, without what opens the door."""

    id: UUID
    name: str
    scopes: list[str]
    user_id: UUID | None = None
    created_at: Time
    created_by: str
    expires_at: Time | None
    last_used_at: Time | None
    revoked_at: Time | None


class CreatedToken(Token):
    """A new token; this answer is the only one that shows it."""

    token: str

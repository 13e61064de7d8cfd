"""Users and what became of their invitations."""

from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import Field, model_validator

from api.schemas.conventions import Answer, Body, Time
from latchflow.sdk.users import Role, UserStatus

Ids = Annotated[list[UUID], Field(max_length=500)]
Email = Annotated[str, Field(min_length=3, max_length=254)]

_SENT = {"sent": True, "failed": False}


class UserCreate(Body):
    """A new user, who gets an invitation by mail."""

    email: Email
    role: Role
    trigger_ids: Ids = Field(default=[], description="Of an EXECUTOR: the triggers whose events it sees.")
    pipeline_ids: Ids = Field(default=[], description="Of an EXECUTOR: the pipelines whose events it sees.")

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        check_limits(self.role, [*self.trigger_ids, *self.pipeline_ids])
        return self


class UserPatch(Body):
    """What to change; what is not sent stays."""

    role: Role = "EXECUTOR"
    status: UserStatus = "ACTIVE"
    trigger_ids: Ids = Field(default=[])
    pipeline_ids: Ids = Field(default=[])


class Invitation(Answer):
    """The last invitation of a user.

    Attributes:
        sent: Whether the mail was sent; null: it may have been.
    """

    sent: bool | None
    problem: str | None
    created_at: Time
    expires_at: Time
    accepted_at: Time | None
    revoked_at: Time | None

    @model_validator(mode="before")
    @classmethod
    def _read_mail(cls, value: Any) -> Any:
        return {**vars(value), "sent": _SENT.get(value.mail)} if hasattr(value, "mail") else value


class User(Answer):
    """A user."""

    id: UUID
    email: str
    role: Role
    status: UserStatus
    trigger_ids: list[UUID]
    pipeline_ids: list[UUID]
    created_at: Time
    created_by: str
    updated_at: Time
    invitation: Invitation | None


def check_limits(role: Role, ids: list[UUID]) -> None:
    """Refuse limits where they would mean nothing."""
    if role == "ADMIN" and ids:
        raise ValueError("An ADMIN sees everything. Leave triggerIds and pipelineIds out.")

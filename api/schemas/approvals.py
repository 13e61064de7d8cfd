"""Deciding about approvals."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from api.schemas.conventions import Answer, Body

Verdict = Literal["approve", "reject"]


class ApprovalBody(Body):
    """What is decided, for good."""

    decision: Verdict
    comment: Annotated[str, Field(max_length=2000)] | None = None


class Approved(Answer):
    """The decision holds; its run goes on by it in a moment."""

    invocation_id: UUID
    decision: Verdict

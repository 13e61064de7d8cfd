"""The action ``user.invite``."""

from typing import Any, Literal

from pydantic import Field

from latchflow.sdk import ActionCall

from .config import ActionConfig, merged, required
from .email import AddressText


class UserInviteConfig(ActionConfig):
    """Whom to invite. Needed at the call: ``email``."""

    email: AddressText | None = None
    role: Literal["EXECUTOR"] | None = Field(None, description="The only one that a plugin may give.")
    overridable: list[Literal["email"]] | None = Field(
        None, description="Fields that the event's context may set where the step has no input."
    )


async def user_invite(call: ActionCall[UserInviteConfig]) -> dict[str, Any]:
    """Invite a user by mail; who is there already gets none."""
    config = merged(call)
    user = await call.services.users.invite(required(config.email, "email"), role=config.role or "EXECUTOR")
    return {"userId": str(user.id), "status": user.status}

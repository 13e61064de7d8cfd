"""The action ``bundle.toggle``."""

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from latchflow.sdk import ActionCall

from .config import ActionConfig, merged, required


class BundleToggleConfig(ActionConfig):
    """The state to set. Needed at the call: both fields."""

    bundle_id: UUID | None = None
    is_enabled: bool | None = Field(None, strict=True)
    overridable: list[Literal["bundleId", "isEnabled"]] | None = Field(
        None, description="Fields that the event's context may set where the step has no input."
    )


async def bundle_toggle(call: ActionCall[BundleToggleConfig]) -> dict[str, Any]:
    """Switch a bundle on or off; the links of one that is off open nothing."""
    config = merged(call)
    bundle_id, is_enabled = required(config.bundle_id, "bundleId"), required(config.is_enabled, "isEnabled")
    await call.services.resources.set_bundle_enabled(bundle_id, is_enabled)
    return {"bundleId": str(bundle_id), "isEnabled": is_enabled}

"""The action ``pipeline.toggle``."""

from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from latchflow.sdk import ActionCall

from .config import ActionConfig, merged, required


class PipelineToggleConfig(ActionConfig):
    """The state to set. Needed at the call: both fields."""

    pipeline_id: UUID | None = None
    is_enabled: bool | None = Field(None, strict=True)
    overridable: list[Literal["pipelineId", "isEnabled"]] | None = Field(
        None, description="Fields that the event's context may set where the step has no input."
    )


async def pipeline_toggle(call: ActionCall[PipelineToggleConfig]) -> dict[str, Any]:
    """Switch a pipeline on or off; the state that it has already changes nothing."""
    config = merged(call)
    pipeline_id, is_enabled = required(config.pipeline_id, "pipelineId"), required(config.is_enabled, "isEnabled")
    await call.services.resources.set_pipeline_enabled(pipeline_id, is_enabled)
    return {"pipelineId": str(pipeline_id), "isEnabled": is_enabled}

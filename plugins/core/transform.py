"""The action ``transform``."""

from typing import Any

from pydantic import Field

from latchflow.sdk import ActionCall

from .config import ActionConfig


class TransformConfig(ActionConfig):
    """Values to compute; later steps read them as ``steps.<name>.output``."""

    values: dict[str, Any] = Field(
        description="Every string in it, at any depth, is a CEL expression.",
        json_schema_extra={"x-latchflow-template": True},
    )


async def transform(call: ActionCall[TransformConfig]) -> dict[str, Any]:
    """Return the values: core has evaluated the expressions in them, because the schema marks them as a template."""
    return dict(call.config.values)

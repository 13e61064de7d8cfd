"""The config of the trigger ``webhook``."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

Method = Literal["DELETE", "GET", "PATCH", "POST", "PUT"]
Secret = Annotated[str, StringConstraints(min_length=8)]


_BASE64 = "^(whsec_)?[A-Za-z0-9+/]+={0,2}$"


def _needs_secret(verification: str, pattern: str) -> dict[str, Any]:
    return {
        "if": {"required": ["verification"], "properties": {"verification": {"const": verification}}},
        "then": {
            "required": ["secret"],
            "properties": {"secret": {"type": "string", "pattern": pattern}, "previousSecret": {"pattern": pattern}},
        },
    }


_WRITE_ONLY: JsonDict = {"writeOnly": True}


class WebhookConfig(BaseModel):
    """How requests are verified and which are taken.

    The secrets arrive beside the config, never in it, so only the schema can demand them.
    """

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        populate_by_name=True,
        frozen=True,
        json_schema_extra={"allOf": [_needs_secret("github", ""), _needs_secret("standard-webhooks", _BASE64)]},
    )

    verification: Literal["github", "standard-webhooks", "none"]
    secret: Secret | None = Field(None, json_schema_extra=_WRITE_ONLY)
    previous_secret: Secret | None = Field(
        None, json_schema_extra=_WRITE_ONLY, description="Accepted too, while senders change over."
    )
    tolerance_seconds: int = Field(300, ge=1, le=86_400, description="How far a signed time may be off.")
    methods: list[Method] = Field(["POST"], min_length=1)

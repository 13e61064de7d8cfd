"""Trigger and action definitions."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from api.schemas.conventions import Answer, Body, Name, Time
from latchflow.gate import Overlap

AttemptSeconds = Annotated[int, Field(ge=1, le=115, strict=True, description="Of one attempt.")]
OnUnknown = Annotated[
    Literal["fail", "resend"],
    Field(description="What follows when nobody knows whether an effect outside has happened: fail, or do it again."),
]
Switch = Annotated[bool, Field(strict=True)]
OverlapOption = Annotated[
    Overlap, Field(description="What becomes of an event that comes while another of the trigger has not ended.")
]
MaxRunningEvents = Annotated[
    int, Field(ge=1, le=1_000_000, strict=True, description="How many of its events run at once; more wait.")
]


class RetryPolicy(Body):
    """How attempts follow each other."""

    max_attempts: Annotated[int, Field(ge=1, le=100, strict=True)] = 5
    initial_interval_seconds: Annotated[float, Field(ge=0.1, le=3600, allow_inf_nan=False)] = 1.0
    backoff_coefficient: Annotated[float, Field(ge=1, le=10, allow_inf_nan=False)] = 2.0
    maximum_interval_seconds: Annotated[float, Field(ge=0.1, le=86400, allow_inf_nan=False)] = 60.0

    @model_serializer(mode="wrap")
    def _only_what_was_sent(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What a step leaves out is its action's to say, and what that leaves out the default."""
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}

    @model_validator(mode="after")
    def _intervals_grow(self) -> Self:
        if self.maximum_interval_seconds < self.initial_interval_seconds:
            raise ValueError("maximumIntervalSeconds must not be below initialIntervalSeconds.")
        return self


class RetryPolicyAnswer(Answer):
    """What a definition says of how attempts follow each other; null where it says nothing."""

    max_attempts: int | None = None
    initial_interval_seconds: float | None = None
    backoff_coefficient: float | None = None
    maximum_interval_seconds: float | None = None


class CapabilityName(Body):
    """A capability by plugin and key."""

    plugin: Annotated[str, Field(min_length=1, max_length=200)]
    key: Annotated[str, Field(min_length=1, max_length=200)]


class CapabilityNameAnswer(Answer):
    """A capability by plugin and key."""

    plugin: str
    key: str


class DefinitionCreate(Body):
    """A new definition; its capability by id, or by plugin and key."""

    name: Name
    capability_id: UUID | None = None
    capability: CapabilityName | None = None
    config: dict[str, Any] = Field(default_factory=dict)
    is_enabled: Switch = True

    @model_validator(mode="after")
    def _one_capability(self) -> Self:
        if (self.capability_id is None) == (self.capability is None):
            raise ValueError("Name the capability either by capabilityId or by capability: {plugin, key}.")
        return self


class TriggerCreate(DefinitionCreate):
    """A new trigger definition; its capability by id, or by plugin and key."""

    overlap: OverlapOption = Overlap.ALLOW_ALL
    max_running_events: MaxRunningEvents | None = None


class ActionCreate(DefinitionCreate):
    """A new action definition; its capability by id, or by plugin and key."""

    retry_policy: RetryPolicy | None = None
    timeout_seconds: AttemptSeconds | None = None
    on_unknown: OnUnknown = "fail"


class DefinitionPatch(Body):
    """Changes of a definition. A config replaces the whole; a secret sent as ``********`` is kept."""

    name: Name = ""
    config: dict[str, Any] = Field(default_factory=dict)
    is_enabled: Switch = True


class TriggerPatch(DefinitionPatch):
    """Changes of a trigger definition. A config replaces the whole; a secret sent as ``********`` is kept."""

    overlap: OverlapOption = Overlap.ALLOW_ALL
    max_running_events: MaxRunningEvents | None = None


class ActionPatch(DefinitionPatch):
    """Changes of an action definition; null gives an option back to its default."""

    retry_policy: RetryPolicy | None = None
    timeout_seconds: AttemptSeconds | None = None
    on_unknown: OnUnknown = "fail"


class Definition(Answer):
    """A definition; secrets show as ``********``."""

    id: UUID
    name: str
    capability_id: UUID
    capability: CapabilityNameAnswer
    config: Any
    is_enabled: bool
    invalid_config: Annotated[
        str | None, Field(description="Why the installed version of the plugin does not take the config.")
    ]
    version: int
    created_at: Time
    updated_at: Time


class Trigger(Definition):
    """A trigger definition; secrets show as ``********``."""

    overlap: Overlap
    max_running_events: int | None


class Action(Definition):
    """An action definition; secrets show as ``********``."""

    retry_policy: RetryPolicyAnswer | None
    timeout_seconds: int | None
    on_unknown: str

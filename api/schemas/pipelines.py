"""Pipelines, their triggers and steps."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from api.schemas.conventions import Answer, Body, Name, Time
from api.schemas.definitions import AttemptSeconds, RetryPolicy, RetryPolicyAnswer, Switch
from latchflow.expressions import MAX_LENGTH

SortOrder = Annotated[int, Field(ge=0, le=1_000_000, strict=True, description="Equal ones run side by side.")]
StepName = Annotated[str, Field(max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Expression = Annotated[str, Field(min_length=1, max_length=MAX_LENGTH, description="CEL")]
OnFailure = Literal["stop", "continue"]
StepKind = Literal["action", "delay", "approval"]
MaxParallel = Annotated[int, Field(ge=1, le=100, strict=True, description="Items at once; 10 without it.")]
Duration = Annotated[str, Field(max_length=100, description="ISO 8601, for example `PT5M` or `P3D`; a year at most.")]
Until = Annotated[str, Field(max_length=MAX_LENGTH, description="A time as in RFC 3339, or CEL that gives one.")]
Approvers = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=320)]],
    Field(max_length=100, description="Names of tokens or addresses of users."),
]
OnTimeout = Literal["approve", "reject", "fail"]


class PipelineTriggerCreate(Body):
    """A trigger to attach; without `sortOrder` behind the others."""

    trigger_id: UUID
    sort_order: SortOrder | None = None
    is_enabled: Switch = True


class PipelineTriggerPatch(Body):
    """Changes of an attached trigger."""

    sort_order: SortOrder = 0
    is_enabled: Switch = True


class PipelineTrigger(Answer):
    """An attached trigger."""

    trigger_id: UUID
    sort_order: int
    is_enabled: bool


class StepCreate(Body):
    """A new step; without `sortOrder` behind the others.

    Of the kind `action` it has an `actionId`; of the kind `delay` either `for` or `until`; of the kind `approval` whom
    it asks (`approvers`; anyone who may operate events without), and what happens when nobody decides in time.
    """

    name: StepName
    kind: StepKind = "action"
    action_id: UUID | None = None
    sort_order: SortOrder | None = None
    is_enabled: Switch = True
    when: Expression | None = None
    input: dict[str, Any] | None = None
    for_each: Expression | None = None
    max_parallel: MaxParallel | None = None
    on_failure: OnFailure = "stop"
    retry_policy: RetryPolicy | None = None
    timeout_seconds: AttemptSeconds | None = None
    for_: Duration | None = Field(default=None, alias="for")
    until: Until | None = None
    approvers: Approvers | None = None
    timeout: Duration | None = None
    on_timeout: OnTimeout | None = None


class StepPatch(Body):
    """Changes of a step; null takes an optional field away."""

    name: StepName = ""
    kind: StepKind = "action"
    action_id: UUID | None = None
    sort_order: SortOrder = 0
    is_enabled: Switch = True
    when: Expression | None = None
    input: dict[str, Any] | None = None
    for_each: Expression | None = None
    max_parallel: MaxParallel | None = None
    on_failure: OnFailure = "stop"
    retry_policy: RetryPolicy | None = None
    timeout_seconds: AttemptSeconds | None = None
    for_: Duration | None = Field(default=None, alias="for")
    until: Until | None = None
    approvers: Approvers | None = None
    timeout: Duration | None = None
    on_timeout: OnTimeout | None = None


class Step(Answer):
    """A step."""

    id: UUID
    name: str
    kind: str
    action_id: UUID | None
    sort_order: int
    is_enabled: bool
    when: str | None
    input: dict[str, Any] | None
    for_each: str | None
    max_parallel: int | None
    on_failure: str
    retry_policy: RetryPolicyAnswer | None
    timeout_seconds: int | None
    for_: str | None = Field(default=None, alias="for")
    until: str | None = None
    approvers: list[str] | None = None
    timeout: str | None = None
    on_timeout: str | None = None


FailureSteps = Annotated[
    list[StepCreate], Field(max_length=100, description="What runs, in their order, when a run has failed.")
]


class PipelineCreate(Body):
    """A new pipeline, with its triggers and steps at once if you like."""

    name: Name
    description: Annotated[str, Field(max_length=10_000)] = ""
    is_enabled: Switch = True
    triggers: Annotated[list[PipelineTriggerCreate], Field(max_length=1000)] = Field(default_factory=list)
    steps: Annotated[list[StepCreate], Field(max_length=1000)] = Field(default_factory=list)
    on_failure_steps: FailureSteps = Field(default_factory=list)


class PipelinePatch(Body):
    """Changes of a pipeline; its triggers and steps have endpoints of their own."""

    name: Name = ""
    description: Annotated[str, Field(max_length=10_000)] = ""
    is_enabled: Switch = True
    on_failure_steps: FailureSteps = Field(default_factory=list)


class Pipeline(Answer):
    """A pipeline."""

    id: UUID
    name: str
    description: str
    is_enabled: bool
    triggers: list[PipelineTrigger]
    steps: list[Step]
    on_failure_steps: list[Step]
    version: int
    created_at: Time
    updated_at: Time

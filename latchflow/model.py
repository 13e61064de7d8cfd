"""Frozen values that cross a boundary: into Temporal's history, into Postgres, between rooms.

Durable ones keep loading what older histories hold: a new field needs a default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal
from uuid import UUID


class EventStatus(StrEnum):
    """Where an event stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    PARTIAL_FAILURE = "PARTIAL_FAILURE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    IGNORED = "IGNORED"


class RunStatus(StrEnum):
    """Where the run of one pipeline stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    PARTIAL_FAILURE = "PARTIAL_FAILURE"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class InvocationStatus(StrEnum):
    """Where one step's execution stands."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    RETRYING = "RETRYING"
    WAITING = "WAITING"
    UNROUTED = "UNROUTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    FAILED_PERMANENT = "FAILED_PERMANENT"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    SKIPPED = "SKIPPED"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing follows."""
        return self not in _OPEN_INVOCATION

    @property
    def is_success(self) -> bool:
        """Whether later steps may run; a skipped step counts as succeeded."""
        return self in (InvocationStatus.SUCCEEDED, InvocationStatus.SKIPPED)


_OPEN_INVOCATION = frozenset(
    {
        InvocationStatus.PENDING,
        InvocationStatus.RUNNING,
        InvocationStatus.RETRYING,
        InvocationStatus.WAITING,
        InvocationStatus.UNROUTED,
    }
)


class Phase(StrEnum):
    """The audit phase of an attempt, a step or a firing trigger."""

    STARTED = "STARTED"
    SUCCEEDED = "SUCCEEDED"
    RETRYING = "RETRYING"
    WAITING = "WAITING"
    FAILED = "FAILED"
    FAILED_PERMANENT = "FAILED_PERMANENT"
    TIMED_OUT = "TIMED_OUT"
    CANCELLED = "CANCELLED"
    LATE = "LATE"
    SKIPPED = "SKIPPED"
    UNROUTED = "UNROUTED"
    DUPLICATE = "DUPLICATE"
    REJECTED = "REJECTED"


class AuditKind(StrEnum):
    """Who an audit entry tells of."""

    TRIGGER = "trigger"
    ACTION = "action"
    SERVICE = "service"
    ADMIN = "admin"
    AUTH = "auth"
    CRYPTO = "crypto"


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """How the attempts of an invocation follow each other.

    Attributes:
        max_attempts: Attempts that count; those that lost their worker do not.
        maximum_interval_seconds: Cap of the growing interval.
    """

    max_attempts: int = 5
    initial_interval_seconds: float = 1.0
    backoff_coefficient: float = 2.0
    maximum_interval_seconds: float = 60.0


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One invocation an event owes, with everything that was fixed when the event opened.

    Its expressions are not here: they stay in Postgres with the invocation, so that the workflow's input stays small.

    Attributes:
        skip_reason: Set when the step was already known not to run (disabled).
        timeout_seconds: Of one attempt, 1 to 115.
        task_queue: Of the plugin's own workers; None for the queue of the event's workflow.
    """

    invocation_id: UUID
    step_id: UUID
    name: str
    sort_order: int
    action_id: UUID
    action_version: int
    action_name: str
    plugin: str
    capability_key: str
    kind: Literal["action"] = "action"
    on_failure: Literal["stop", "continue"] = "stop"
    is_inline: bool = False
    timeout_seconds: int = 115
    retry_policy: RetryPolicy = RetryPolicy()
    skip_reason: str | None = None
    task_queue: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """The run of one pipeline that an event owes."""

    run_id: UUID
    pipeline_id: UUID
    pipeline_name: str
    pipeline_version: int
    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an event owes, fixed when it opens. The input of `TriggerEventWorkflow`."""

    event_id: UUID
    trigger_id: UUID
    trigger_name: str
    runs: tuple[PlannedRun, ...]


@dataclass(frozen=True, kw_only=True)
class StepInForce:
    """A step as its pipeline has it now, with the action definition it uses.

    Attributes:
        when: CEL that must be true for the step to run.
        input: An object whose strings are CEL; becomes the payload. None: the payload is the event's context.
    """

    id: UUID
    name: str
    sort_order: int
    is_enabled: bool
    kind: Literal["action"]
    on_failure: Literal["stop", "continue"]
    when: str | None
    input: Mapping[str, Any] | None
    retry_policy: Mapping[str, Any] | None
    timeout_seconds: int | None
    action_id: UUID
    action_version: int
    action_name: str
    is_action_enabled: bool
    action_retry_policy: Mapping[str, Any] | None
    action_timeout_seconds: int | None
    plugin: str
    capability_key: str
    is_inline: bool


@dataclass(frozen=True, kw_only=True)
class PipelineInForce:
    """An enabled pipeline attached to a trigger, as it is now."""

    id: UUID
    name: str
    version: int
    steps: tuple[StepInForce, ...]


@dataclass(frozen=True, kw_only=True)
class ActionTask:
    """The input of `execute_action`: one invocation to carry out."""

    event_id: UUID
    trigger_id: UUID
    trigger_name: str
    pipeline_id: UUID
    pipeline_name: str
    run_id: UUID
    step: PlannedStep


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an invocation ended.

    Attributes:
        reason: Why it was skipped, or the message of the failure.
        output: The output inline when it is small, else ``{"ref", "sha256", "size"}``; for readers of the history,
            steps read outputs from Postgres.
    """

    invocation_id: UUID
    status: InvocationStatus
    reason: str | None = None
    output: Any = None


@dataclass(frozen=True, kw_only=True)
class Closing:
    """The input of `close_event`: what the workflow knows and no attempt recorded."""

    event_id: UUID
    outcomes: tuple[Outcome, ...]
    is_cancelled: bool = False

"""Frozen values that cross a boundary: into Temporal's history, into Postgres, between rooms.

Durable ones keep loading what older histories hold: a new field needs a default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
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


StepKind = Literal["action", "delay", "approval"]


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """One invocation an event owes, with everything that was fixed when the event opened.

    Its expressions are not here: they stay in Postgres with the invocation, so that the workflow's input stays small.

    Attributes:
        action_id: Of steps of the kind ``action``, as everything else that names an action or a plugin.
        skip_reason: Set when the step was already known not to run (disabled).
        timeout_seconds: Of one attempt, 1 to 115.
        task_queue: Of the plugin's own workers; None for the queue of the event's workflow.
        is_for_each: The step is executed once for each item of a list, each an invocation of its own.
        max_parallel: How many of its items at once.
        is_kept: The event repeats another, in which this step has finished: its output is there, and it does not run.
    """

    invocation_id: UUID
    step_id: UUID
    name: str
    sort_order: int
    action_id: UUID | None = None
    action_version: int | None = None
    action_name: str = ""
    plugin: str = ""
    capability_key: str = ""
    kind: StepKind = "action"
    on_failure: Literal["stop", "continue"] = "stop"
    is_inline: bool = False
    timeout_seconds: int = 115
    retry_policy: RetryPolicy = RetryPolicy()
    skip_reason: str | None = None
    task_queue: str | None = None
    is_for_each: bool = False
    max_parallel: int = 10
    is_kept: bool = False


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """The run of one pipeline that an event owes.

    Attributes:
        failure_steps: What runs after its steps when the run failed.
    """

    run_id: UUID
    pipeline_id: UUID
    pipeline_name: str
    pipeline_version: int
    steps: tuple[PlannedStep, ...]
    failure_steps: tuple[PlannedStep, ...] = ()

    @property
    def every_step(self) -> tuple[PlannedStep, ...]:
        """Its steps and those for its failure."""
        return (*self.steps, *self.failure_steps)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What an event owes, fixed when it opens. The input of `TriggerEventWorkflow`.

    Attributes:
        is_divided: It owes so much that each run is a child workflow.
    """

    event_id: UUID
    trigger_id: UUID
    trigger_name: str
    runs: tuple[PlannedRun, ...]
    is_divided: bool = False


@dataclass(frozen=True, kw_only=True)
class StepInForce:
    """A step as its pipeline has it now, with the action definition it uses.

    Attributes:
        when: CEL that must be true for the step to run.
        input: An object whose strings are CEL; becomes the payload. None: the payload is the event's context.
        for_each: CEL that gives a list; the step is executed once for each of its items.
        wait: What a delay or an approval waits for, as the pipeline's document says it.
        is_failure_step: It runs when the run failed, after the others.
    """

    id: UUID
    name: str
    sort_order: int
    is_enabled: bool
    kind: StepKind
    on_failure: Literal["stop", "continue"]
    when: str | None
    input: Mapping[str, Any] | None
    retry_policy: Mapping[str, Any] | None
    timeout_seconds: int | None
    action_id: UUID | None
    action_version: int | None
    action_name: str | None
    is_action_enabled: bool
    action_retry_policy: Mapping[str, Any] | None
    action_timeout_seconds: int | None
    plugin: str | None
    capability_key: str | None
    is_inline: bool
    for_each: str | None = None
    max_parallel: int | None = None
    wait: Mapping[str, Any] | None = None
    is_failure_step: bool = False


@dataclass(frozen=True, kw_only=True)
class PipelineInForce:
    """An enabled pipeline attached to a trigger, as it is now."""

    id: UUID
    name: str
    version: int
    steps: tuple[StepInForce, ...]


@dataclass(frozen=True, kw_only=True)
class ActionTask:
    """One invocation to carry out: the input of `execute_action`, and of what waits for it.

    Attributes:
        turn: 0, and one more each time the invocation has waited; attempts of an earlier turn are refused.
    """

    event_id: UUID
    trigger_id: UUID
    trigger_name: str
    pipeline_id: UUID
    pipeline_name: str
    run_id: UUID
    step: PlannedStep
    turn: int = 0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How an invocation ended, or that it waits.

    Attributes:
        reason: Why it was skipped, or the message of the failure.
        output: The output inline when it is small, else ``{"ref", "sha256", "size"}``; for readers of the history,
            steps read outputs from Postgres.
        wait_until: With the status WAITING, when it is looked at again, woken or not.
        is_partial: Some items of a ``forEach`` failed, not all of them.
    """

    invocation_id: UUID
    status: InvocationStatus
    reason: str | None = None
    output: Any = None
    wait_until: datetime | None = None
    is_partial: bool = False


@dataclass(frozen=True, kw_only=True)
class RunTask:
    """One run of an event; the input of `RunWorkflow`.

    Attributes:
        is_divided: It has a workflow of its own, whose history its items are kept out of.
    """

    event_id: UUID
    trigger_id: UUID
    trigger_name: str
    run: PlannedRun
    is_divided: bool = False


@dataclass(frozen=True, kw_only=True)
class ItemCounts:
    """How the items of a ``forEach`` ended so far, by status."""

    succeeded: int = 0
    skipped: int = 0
    failed: int = 0
    cancelled: int = 0


@dataclass(frozen=True, kw_only=True)
class ItemsTask:
    """The input of `ItemsWorkflow`: the items of a ``forEach`` from one on.

    Attributes:
        task: The step; its invocation stands for all items.
        count: How many items there are.
        first: The index of the first that has not run.
        counts: Of those before it.
    """

    task: ActionTask
    count: int
    first: int = 0
    counts: ItemCounts = ItemCounts()


@dataclass(frozen=True, kw_only=True)
class Expansion:
    """What a ``forEach`` came to.

    Attributes:
        count: Items, each with an invocation of its own.
        outcome: Set when there is nothing to run: the step was skipped, or its expression failed.
    """

    count: int = 0
    outcome: Outcome | None = None


@dataclass(frozen=True, kw_only=True)
class WaitTask:
    """The input of `WaitWorkflow`: an invocation that waits.

    Attributes:
        until: When it is looked at if nobody wakes it.
    """

    task: ActionTask
    until: datetime


@dataclass(frozen=True, kw_only=True)
class Closing:
    """The input of `close_event`: what the workflow knows and no attempt recorded."""

    event_id: UUID
    outcomes: tuple[Outcome, ...]
    is_cancelled: bool = False


@dataclass(frozen=True, kw_only=True)
class RunClosing:
    """The input of `close_run`: a run that ends before its event does."""

    event_id: UUID
    run_id: UUID
    outcomes: tuple[Outcome, ...]
    is_cancelled: bool = False

"""Events, their runs, invocations and attempts."""

from typing import Any
from uuid import UUID

from api.schemas.conventions import Answer, Time
from api.schemas.definitions import CapabilityNameAnswer
from latchflow.gate import Verdict


class AttemptError(Answer):
    """Why an attempt failed."""

    type: str
    message: str


class Attempt(Answer):
    """One try of an invocation."""

    number: int
    phase: str
    lost: bool
    started_at: Time
    ended_at: Time | None
    worker: str
    plugin_version: str
    code_hash: str
    progress: Any
    error: AttemptError | None


class Decision(Answer):
    """What was decided about an approval.

    Attributes:
        by: Who; null when it was its timeout.
    """

    decision: str
    comment: str | None
    by: str | None
    at: Time


class Invocation(Answer):
    """One step's execution in one run, or that of one item of its list: then it has an `index`.

    A delay and an approval have neither an action nor a capability. `error` says why it did not succeed.
    """

    id: UUID
    step_name: str
    index: int | None
    kind: str
    action_id: UUID | None
    capability: CapabilityNameAnswer | None
    status: str
    waiting_for: str | None = None
    approvers: list[str] | None = None
    decision: Decision | None = None
    skipped_reason: str | None
    error: AttemptError | None = None
    output: Any
    next_attempt_at: Time | None
    attempts: list[Attempt]


class Execution(Invocation):
    """An invocation as its action lists it."""

    event_id: UUID
    run_id: UUID


class Run(Answer):
    """The execution of one pipeline for one event."""

    id: UUID
    pipeline_id: UUID
    pipeline_name: str
    status: str
    invocations: list[Invocation]


class Gate(Answer):
    """What was decided of an event when it opened.

    Attributes:
        reason: What stood in its way: ``paused``, ``max_running_events``, or the overlap of its trigger.
        released_at: When the turn of an event came that had waited.
    """

    verdict: Verdict
    reason: str | None
    at: Time
    released_at: Time | None


class EventSummary(Answer):
    """An event without its context and runs; no trigger fired the test run of an action."""

    id: UUID
    trigger_id: UUID | None
    trigger_name: str
    status: str
    scheduled_for: Time | None
    metadata: Any
    invoker: str | None
    fired_at: Time
    closed_at: Time | None
    closed_by: str | None
    closed_reason: str | None
    gate: Gate | None
    deliveries: int
    workflow_id: str | None
    temporal_url: str | None
    rerun_of: UUID | None = None
    stuck: bool


class Event(EventSummary):
    """One firing of a trigger definition."""

    context: Any
    runs: list[Run]

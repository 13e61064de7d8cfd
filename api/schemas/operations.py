"""Operations on events: cancel, re-run, bulk, the test run of an action."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field, model_validator

from api.schemas.conventions import Answer, Body, Time
from latchflow.model import EventStatus
from latchflow.repeats import Rerun, StepPoint

Definitions = Literal["now", "then"]
StepName = Annotated[str, Field(min_length=1, max_length=200)]


class StepOfPipeline(Body):
    """A step to re-run from, where its name alone would not say which, or is ``start`` or ``failed``."""

    pipeline_id: UUID | None = None
    step: StepName


class RerunBody(Body):
    """What of an event is repeated: from its ``start``, from what ``failed``, or from a step."""

    from_: StepName | StepOfPipeline = Field(default="start", alias="from")
    definitions: Definitions = "now"

    def wanted(self) -> Rerun:
        """As the library takes it."""
        return Rerun(start=_start_of(self.from_), definitions=self.definitions)


class Opened(Answer):
    """The event that was opened."""

    event_id: UUID


class Asked(Answer):
    """The event that something was asked of."""

    event_id: UUID


class BulkFilter(Body):
    """Which events; every field narrows."""

    trigger_id: UUID | None = None
    pipeline_id: UUID | None = None
    status: EventStatus | None = None
    fired_after: Time | None = Field(default=None, description="At or after.")
    fired_before: Time | None = Field(default=None, description="Before.")
    all: Literal[True] | None = Field(default=None, description="Instead of the others: every event.")

    @model_validator(mode="after")
    def _says_which(self) -> "BulkFilter":
        is_narrow = bool(self.narrowing())
        if is_narrow and self.all:
            raise ValueError("`all` stands alone: leave it out, or the other fields.")
        if not is_narrow and not self.all:
            raise ValueError('An empty filter means every event. If that is meant, write {"all": true}.')
        return self

    def narrowing(self) -> dict[str, Any]:
        """The fields that were given, as JSON."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"all"})


class BulkCreate(Body):
    """An operation on many events."""

    operation: Literal["cancel", "rerun"]
    filter: BulkFilter
    rate_per_second: float = Field(default=10, ge=0.01, le=100, description="Events at most.")
    from_: StepName | StepOfPipeline | None = Field(default=None, alias="from")
    definitions: Definitions | None = None

    @model_validator(mode="after")
    def _fits(self) -> "BulkCreate":
        if self.operation == "cancel" and (self.from_ is not None or self.definitions is not None):
            raise ValueError("`from` and `definitions` belong to the operation `rerun`.")
        return self

    def options(self) -> dict[str, Any]:
        """Those of a re-run, as JSON."""
        if self.operation == "cancel":
            return {}
        start = self.from_ or "start"
        if isinstance(start, StepOfPipeline):
            kept: Any = start.model_dump(mode="json", by_alias=True, exclude_none=True)
        else:
            kept = start if start in ("start", "failed") else {"step": start}
        return {"from": kept, "definitions": self.definitions or "now"}


class BulkStarted(Answer):
    """The operation that was begun."""

    id: UUID


class BulkOperation(Answer):
    """An operation on many events, and how far it is."""

    id: UUID
    operation: str
    filter: Any
    status: str
    total: int
    done: int
    failed: int
    rate_per_second: float
    started_by: str
    created_at: Time
    finished_at: Time | None
    last_error: str | None


class TestRunBody(Body):
    """What the action gets as its input."""

    __test__ = False  # no class of tests

    payload: dict[str, Any] = Field(default_factory=dict)


def _start_of(given: str | StepOfPipeline) -> Any:
    if isinstance(given, StepOfPipeline):
        return StepPoint(step=given.step, pipeline_id=given.pipeline_id)
    return given if given in ("start", "failed") else StepPoint(step=given)

"""Random runs with random outcomes, driven the way the workflow drives them."""

from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from uuid import UUID, uuid5

from hypothesis import strategies as st

from latchflow.model import (
    InvocationStatus,
    ItemCounts,
    Outcome,
    PipelineInForce,
    PlannedRun,
    PlannedStep,
    StepInForce,
)

SPACE = UUID("00000000-0000-4000-8000-000000000001")
_ENDINGS = (
    InvocationStatus.SUCCEEDED,
    InvocationStatus.SUCCEEDED,
    InvocationStatus.SKIPPED,
    InvocationStatus.FAILED,
    InvocationStatus.FAILED_PERMANENT,
    InvocationStatus.TIMED_OUT,
)


def step(name: str, sort_order: int = 0, **fields: object) -> StepInForce:
    """A step in force."""
    known: dict[str, object] = {
        "id": uuid5(SPACE, name),
        "name": name,
        "sort_order": sort_order,
        "is_enabled": True,
        "kind": "action",
        "on_failure": "stop",
        "when": None,
        "input": None,
        "retry_policy": None,
        "timeout_seconds": None,
        "action_id": uuid5(SPACE, f"action of {name}"),
        "action_version": 1,
        "action_name": "greet",
        "is_action_enabled": True,
        "action_retry_policy": None,
        "action_timeout_seconds": None,
        "plugin": "acme-greeter",
        "capability_key": "greet",
        "is_inline": False,
    }
    return StepInForce(**{**known, **fields})  # type: ignore[arg-type]


@dataclass(frozen=True)
class Case:
    """A pipeline and what would come of each of its steps.

    Attributes:
        endings: By name, what comes of a step; of a ``forEach`` step, of each item.
        kept: Names of steps that finished in the event this one repeats.
        cancelled_at: The group during which somebody cancels.
    """

    steps: tuple[StepInForce, ...]
    endings: dict[str, tuple[InvocationStatus, ...]]
    kept: frozenset[str] = frozenset()
    cancelled_at: int | None = None


@dataclass
class Driven:
    """A run driven to its end: the groups that started together, and every outcome."""

    case: Case
    run: PlannedRun
    groups: list[tuple[PlannedStep, ...]] = field(default_factory=list)
    outcomes: dict[UUID, Outcome] = field(default_factory=dict)
    is_cancelled: bool = False

    @property
    def started(self) -> list[PlannedStep]:
        """The steps that ran, in their order."""
        return [member for group in self.groups for member in group]

    def status(self, member: PlannedStep) -> InvocationStatus:
        """How a step ended."""
        return self.outcomes[member.invocation_id].status


def planned(plan: Any, *steps: StepInForce, kept: frozenset[str] = frozenset()) -> PlannedRun:
    """The run that an event owes for one pipeline of these steps."""
    pipeline = PipelineInForce(id=uuid5(SPACE, "pipeline"), name="orders", version=1, steps=steps)
    (run,) = plan.manifest(uuid5(SPACE, "event"), uuid5(SPACE, "trigger"), "orders", [pipeline]).runs

    def marked(found: tuple[PlannedStep, ...]) -> tuple[PlannedStep, ...]:
        return tuple(plan.replace(member, is_kept=member.name in kept) for member in found)

    made: PlannedRun = plan.replace(run, steps=marked(run.steps), failure_steps=marked(run.failure_steps))
    return made


def drive(plan: ModuleType, case: Case) -> Driven:
    """What the workflow does: start a group, wait for all of it, and so on; then what the closing adds."""
    driven = Driven(case, planned(plan, *case.steps, kept=case.kept))
    run, outcomes = driven.run, driven.outcomes
    outcomes.update(plan.outcomes_kept(run))
    while not driven.is_cancelled and (group := plan.next_steps(run, outcomes)):
        driven.groups.append(group)
        assert len(driven.groups) <= len(case.steps), "the run never ends"
        driven.is_cancelled = case.cancelled_at == len(driven.groups) - 1
        for member in group:
            assert member.invocation_id not in outcomes, "a step was started twice"
            outcomes[member.invocation_id] = _ending(plan, member, driven)
    rest = InvocationStatus.CANCELLED if driven.is_cancelled else InvocationStatus.FAILED
    driven.outcomes = plan.endings(run, outcomes, Outcome(invocation_id=SPACE, status=rest))
    return driven


def _ending(plan: Any, member: PlannedStep, driven: Driven) -> Outcome:
    endings = driven.case.endings[member.name]
    if driven.is_cancelled:
        return Outcome(invocation_id=member.invocation_id, status=InvocationStatus.CANCELLED)
    if not member.is_for_each:
        return Outcome(invocation_id=member.invocation_id, status=endings[0])
    items = [Outcome(invocation_id=plan.item_of(member, n).invocation_id, status=e) for n, e in enumerate(endings)]
    assert len({item.invocation_id for item in items} | {member.invocation_id}) == len(items) + 1
    counts = plan.count_items(items[:2], ItemCounts())
    outcome: Outcome = plan.outcome_of_items(member, plan.count_items(items[2:], counts))
    return outcome


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Pipelines of every shape."""
    steps, endings = [], {}
    for position in range(draw(st.integers(1, 9))):
        name = f"step-{position}"
        is_for_each = draw(st.integers(0, 2)) == 0
        steps.append(
            step(
                name,
                draw(st.integers(0, 3)),
                on_failure=draw(st.sampled_from(("stop", "continue"))),
                is_enabled=draw(st.integers(0, 4)) > 0,
                is_action_enabled=draw(st.integers(0, 6)) > 0,
                is_failure_step=draw(st.integers(0, 2)) == 0,
                for_each="event.context.list" if is_for_each else None,
            )
        )
        count = draw(st.sampled_from((0, 1, 3))) if is_for_each else 1
        endings[name] = tuple(draw(st.sampled_from(_ENDINGS)) for _ in range(count))
    repeats = draw(st.integers(0, 3)) == 0
    kept = frozenset(member.name for member in steps if repeats and draw(st.booleans()))
    cancelled_at = draw(st.integers(0, 2)) if draw(st.integers(0, 3)) == 0 else None
    return Case(tuple(draw(st.permutations(steps))), endings, kept, cancelled_at)

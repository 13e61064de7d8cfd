"""Random runs with random outcomes, driven the way the workflow drives them."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latchflow import plan
from latchflow.model import (
    EventStatus,
    InvocationStatus,
    Outcome,
    Phase,
    PipelineInForce,
    PlannedRun,
    PlannedStep,
    RetryPolicy,
    RunStatus,
    StepInForce,
)
from latchflow.temporal.policies import retry_policy as temporal_retry_policy

_SPACE = UUID("00000000-0000-4000-8000-000000000001")
_ENDINGS = (
    InvocationStatus.SUCCEEDED,
    InvocationStatus.SKIPPED,
    InvocationStatus.FAILED,
    InvocationStatus.FAILED_PERMANENT,
    InvocationStatus.TIMED_OUT,
)


def step(
    name: str,
    sort_order: int = 0,
    *,
    on_failure: str = "stop",
    is_enabled: bool = True,
    is_action_enabled: bool = True,
    **fields: object,
) -> StepInForce:
    known: dict[str, object] = {
        "id": uuid5(_SPACE, name),
        "name": name,
        "sort_order": sort_order,
        "is_enabled": is_enabled,
        "kind": "action",
        "on_failure": on_failure,
        "when": None,
        "input": None,
        "retry_policy": None,
        "timeout_seconds": None,
        "action_id": uuid5(_SPACE, f"action of {name}"),
        "action_version": 1,
        "action_name": "greet",
        "is_action_enabled": is_action_enabled,
        "action_retry_policy": None,
        "action_timeout_seconds": None,
        "plugin": "acme-greeter",
        "capability_key": "greet",
        "is_inline": False,
    }
    return StepInForce(**{**known, **fields})  # type: ignore[arg-type]


def planned(*steps: StepInForce) -> PlannedRun:
    """The run that an event owes for one pipeline of these steps."""
    pipeline = PipelineInForce(id=uuid5(_SPACE, "pipeline"), name="orders", version=1, steps=steps)
    return plan.manifest(uuid5(_SPACE, "event"), uuid5(_SPACE, "trigger"), "orders", [pipeline]).runs[0]


@dataclass
class Driven:
    """A run driven to its end: the groups that started together, and every outcome."""

    run: PlannedRun
    groups: list[tuple[PlannedStep, ...]]
    outcomes: dict[UUID, Outcome]

    @property
    def started(self) -> list[PlannedStep]:
        return [member for group in self.groups for member in group]

    def status(self, member: PlannedStep) -> InvocationStatus:
        return self.outcomes[member.invocation_id].status


def drive(run: PlannedRun, endings: dict[str, InvocationStatus]) -> Driven:
    """What the workflow does: start a group, wait for all of it, and so on; at the end, the steps that never ran."""
    outcomes: dict[UUID, Outcome] = {}
    groups = []
    while group := plan.next_steps(run, outcomes):
        groups.append(group)
        assert len(groups) <= len(run.steps), "the run never ends"
        for member in group:
            assert member.invocation_id not in outcomes, "a step was started twice"
            outcomes[member.invocation_id] = Outcome(
                invocation_id=member.invocation_id, status=endings.get(member.name, InvocationStatus.SUCCEEDED)
            )
    for outcome in plan.skips(run, outcomes):
        assert outcome.invocation_id not in outcomes, "a step that ended was skipped"
        outcomes[outcome.invocation_id] = outcome
    return Driven(run, groups, outcomes)


@st.composite
def driven_runs(draw: st.DrawFn) -> Driven:
    steps = [
        step(
            f"step-{position}",
            draw(st.integers(-1, 4)),
            on_failure=draw(st.sampled_from(("stop", "continue"))),
            is_enabled=draw(st.integers(0, 4)) > 0,
            is_action_enabled=draw(st.integers(0, 4)) > 0,
        )
        for position in range(draw(st.integers(0, 8)))
    ]
    endings = {member.name: draw(st.sampled_from(_ENDINGS)) for member in steps}
    return drive(planned(*draw(st.permutations(steps))), endings)


@given(driven_runs())
def test_every_invocation_ends_in_exactly_one_terminal_status(driven: Driven) -> None:
    assert driven.outcomes.keys() == {member.invocation_id for member in driven.run.steps}
    assert all(outcome.status.is_terminal for outcome in driven.outcomes.values())


@given(driven_runs())
def test_groups_start_whole_and_in_their_order(driven: Driven) -> None:
    orders = [{member.sort_order for member in group} for group in driven.groups]

    assert all(len(distinct) == 1 for distinct in orders)
    assert all(min(earlier) < min(later) for earlier, later in pairwise(orders))


@given(driven_runs())
def test_nothing_runs_after_a_failed_stop_step_and_says_so(driven: Driven) -> None:
    failed = [m for m in driven.started if m.on_failure == "stop" and not driven.status(m).is_success]
    broken_at = min((m.sort_order for m in failed), default=None)
    if broken_at is None:
        return
    later = [m for m in driven.run.steps if m.sort_order > broken_at]

    assert not [m for m in driven.started if m.sort_order > broken_at]
    assert all(driven.outcomes[m.invocation_id].reason == plan.PREVIOUS_FAILED for m in later)


@given(driven_runs())
def test_siblings_of_a_failed_step_are_started_with_it(driven: Driven) -> None:
    for group in driven.groups:
        order = group[0].sort_order
        siblings = {m.name for m in driven.run.steps if m.sort_order == order and m.skip_reason is None}

        assert {m.name for m in group} == siblings


@given(driven_runs())
def test_a_disabled_step_never_starts_and_never_fails_its_run(driven: Driven) -> None:
    disabled = [m for m in driven.run.steps if m.skip_reason is not None]

    assert not [m for m in driven.started if m.skip_reason is not None]
    assert all(driven.status(m) is InvocationStatus.SKIPPED for m in disabled)


@given(driven_runs())
def test_the_status_of_a_run_follows_from_its_failed_steps(driven: Driven) -> None:
    failed = [m for m in driven.run.steps if not driven.status(m).is_success]
    expected = RunStatus.SUCCEEDED
    if any(m.on_failure == "stop" for m in failed):
        expected = RunStatus.FAILED
    elif failed:
        expected = RunStatus.PARTIAL_FAILURE

    assert plan.run_status(driven.run, driven.outcomes) is expected


@given(driven_runs())
def test_a_step_runs_unless_something_before_it_stopped_the_run(driven: Driven) -> None:
    broken = [m.sort_order for m in driven.started if m.on_failure == "stop" and not driven.status(m).is_success]
    expected = {
        m.name for m in driven.run.steps if m.skip_reason is None and not any(order < m.sort_order for order in broken)
    }

    assert {m.name for m in driven.started} == expected


@given(st.lists(st.sampled_from(RunStatus), max_size=5))
def test_an_event_has_the_status_its_runs_agree_on(statuses: list[RunStatus]) -> None:
    status = plan.event_status(statuses)

    if not statuses:
        assert status is EventStatus.IGNORED
    elif len(set(statuses)) == 1:
        assert status == statuses[0].value
    else:
        assert status is EventStatus.PARTIAL_FAILURE


def test_a_cancelled_step_makes_its_run_cancelled_whatever_the_others_did() -> None:
    run = planned(step("one"), step("two"))
    endings = {"one": InvocationStatus.CANCELLED, "two": InvocationStatus.FAILED}

    assert plan.run_status(run, drive(run, endings).outcomes) is RunStatus.CANCELLED


def test_an_invocation_nobody_knows_anything_of_counts_as_failed() -> None:
    assert plan.run_status(planned(step("one")), {}) is RunStatus.FAILED
    assert plan.run_status(planned(step("one", on_failure="continue")), {}) is RunStatus.PARTIAL_FAILURE


def test_a_run_without_steps_succeeds() -> None:
    run = planned()

    assert plan.next_steps(run, {}) == ()
    assert plan.run_status(run, {}) is RunStatus.SUCCEEDED


def test_a_manifest_made_twice_has_the_same_ids() -> None:
    assert planned(step("one"), step("two")) == planned(step("one"), step("two"))


def test_a_step_overrides_single_fields_of_the_retry_policy_and_the_timeout_of_its_action() -> None:
    overriding = step(
        "one",
        action_retry_policy={"max_attempts": 2, "initial_interval_seconds": 9.0},
        retry_policy={"max_attempts": 7},
        action_timeout_seconds=30,
        timeout_seconds=3,
    )
    (found,) = planned(overriding).steps

    assert found.retry_policy == RetryPolicy(max_attempts=7, initial_interval_seconds=9.0)
    assert found.timeout_seconds == 3


def test_without_any_timeout_an_attempt_may_take_115_seconds() -> None:
    assert planned(step("one")).steps[0].timeout_seconds == 115


def test_a_disabled_step_and_a_disabled_action_give_their_own_reasons() -> None:
    run = planned(step("one", is_enabled=False), step("two", is_action_enabled=False))

    assert [member.skip_reason for member in run.steps] == ["step_disabled", "action_disabled"]


@pytest.mark.parametrize(
    ("is_retryable", "is_timeout", "counted_before", "phase", "status"),
    [
        (True, False, 0, Phase.RETRYING, InvocationStatus.RETRYING),
        (True, False, 1, Phase.RETRYING, InvocationStatus.RETRYING),
        (True, False, 2, Phase.FAILED, InvocationStatus.FAILED),
        (True, False, 9, Phase.FAILED, InvocationStatus.FAILED),
        (False, False, 0, Phase.FAILED_PERMANENT, InvocationStatus.FAILED_PERMANENT),
        (False, False, 2, Phase.FAILED_PERMANENT, InvocationStatus.FAILED_PERMANENT),
        (True, True, 0, Phase.TIMED_OUT, InvocationStatus.RETRYING),
        (True, True, 2, Phase.TIMED_OUT, InvocationStatus.TIMED_OUT),
        (True, True, 3, Phase.TIMED_OUT, InvocationStatus.TIMED_OUT),
    ],
)
def test_an_attempt_that_failed_ends_by_the_table(
    is_retryable: bool, is_timeout: bool, counted_before: int, phase: Phase, status: InvocationStatus
) -> None:
    policy = RetryPolicy(max_attempts=3)
    found = plan.failure_phase(
        is_retryable=is_retryable, is_timeout=is_timeout, counted_before=counted_before, policy=policy
    )

    assert found is phase
    assert plan.invocation_status(found, counted_before=counted_before, policy=policy) is status


@given(
    is_timeout=st.booleans(),
    policy=st.builds(RetryPolicy, max_attempts=st.integers(1, 8)),
)
def test_a_series_of_retryable_failures_ends_exactly_with_the_last_allowed_attempt(
    is_timeout: bool, policy: RetryPolicy
) -> None:
    ended = []
    for counted_before in range(policy.max_attempts):
        phase = plan.failure_phase(
            is_retryable=True, is_timeout=is_timeout, counted_before=counted_before, policy=policy
        )
        ended.append(plan.invocation_status(phase, counted_before=counted_before, policy=policy).is_terminal)

    assert ended == [False] * (policy.max_attempts - 1) + [True]


@pytest.mark.parametrize(
    ("attempt", "seconds"), [(1, 1.0), (2, 2.0), (3, 4.0), (6, 32.0), (7, 60.0), (8, 60.0), (10_000, 60.0)]
)
def test_the_wait_doubles_up_to_a_minute(attempt: int, seconds: float) -> None:
    assert plan.backoff_seconds(attempt, RetryPolicy()) == seconds


@given(
    st.integers(1, 100_000),
    st.builds(
        RetryPolicy,
        initial_interval_seconds=st.floats(0.1, 3600),
        backoff_coefficient=st.floats(1, 1000),
        maximum_interval_seconds=st.floats(0.1, 86_400),
    ),
)
def test_the_announced_wait_never_passes_the_cap_that_temporal_is_given(attempt: int, policy: RetryPolicy) -> None:
    (planned_step,) = planned(step("one", retry_policy=vars(policy))).steps
    cap = temporal_retry_policy(planned_step).maximum_interval
    assert cap is not None

    assert policy.initial_interval_seconds <= plan.backoff_seconds(attempt, policy) <= cap.total_seconds() + 1e-6


def test_a_step_of_a_dedicated_plugin_goes_to_its_own_queue_and_is_never_inline() -> None:
    steps = (step("one", plugin="@acme/Reports", is_inline=True),)
    pipelines = [PipelineInForce(id=_SPACE, name="p", version=1, steps=steps)]

    (run,) = plan.manifest(_SPACE, _SPACE, "t", pipelines, {"@acme/Reports"}).runs
    (ordinary,) = plan.manifest(_SPACE, _SPACE, "t", pipelines, {"acme"}).runs

    assert (run.steps[0].task_queue, run.steps[0].is_inline) == ("latchflow-plugin-acme-reports", False)
    assert (ordinary.steps[0].task_queue, ordinary.steps[0].is_inline) == (None, True)


@given(
    check_after=st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=10_000)),
    left=st.none() | st.timedeltas(min_value=timedelta(days=-1), max_value=timedelta(days=10_000)),
)
def test_a_wait_is_never_longer_than_asked_for_than_a_year_or_than_to_the_deadline(
    check_after: timedelta, left: timedelta | None
) -> None:
    now = datetime(2030, 1, 1, tzinfo=UTC)
    wait = plan.waiting_time(now, check_after, None if left is None else now + left)

    if wait is None:
        assert left is not None
        assert left <= timedelta(0)
        return
    limits = [check_after, timedelta(days=365), *([] if left is None else [left])]
    assert wait == max(timedelta(milliseconds=100), min(limits))

"""Single decisions."""

from datetime import UTC, datetime, timedelta

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
    RetryPolicy,
    RunStatus,
    StepInForce,
)
from latchflow.temporal.policies import retry_policy as temporal_retry_policy
from tests.unit.plan import cases
from tests.unit.plan.cases import SPACE, step


def planned(*steps: StepInForce) -> PlannedRun:
    """The run that an event owes for one pipeline of these steps."""
    return cases.planned(plan, *steps)


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
    endings = (InvocationStatus.CANCELLED, InvocationStatus.FAILED)
    outcomes = {
        member.invocation_id: Outcome(invocation_id=member.invocation_id, status=status)
        for member, status in zip(run.steps, endings, strict=True)
    }

    assert plan.run_status(run, outcomes) is RunStatus.CANCELLED


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
    pipelines = [PipelineInForce(id=SPACE, name="p", version=1, steps=steps)]

    (run,) = plan.manifest(SPACE, SPACE, "t", pipelines, {"@acme/Reports"}).runs
    (ordinary,) = plan.manifest(SPACE, SPACE, "t", pipelines, {"acme"}).runs

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

"""What holds for every run, as checks of one that was driven to its end.

None of them asks `latchflow.plan`: each says by itself what must have happened.
"""

from itertools import pairwise
from types import ModuleType

from latchflow.model import InvocationStatus, PlannedStep, RunStatus
from tests.unit.plan.cases import Driven

_SUCCESS = (InvocationStatus.SUCCEEDED, InvocationStatus.SKIPPED)


def _failed(driven: Driven, steps: tuple[PlannedStep, ...]) -> list[PlannedStep]:
    return [member for member in steps if driven.status(member) not in _SUCCESS]


def _has_failed(driven: Driven) -> bool:
    """Whether a `stop` step has failed as a whole; some failed items among others are a partial failure."""
    return any(
        member.on_failure == "stop" and not _is_partial(driven, member) for member in _failed(driven, driven.run.steps)
    )


def _is_partial(driven: Driven, member: PlannedStep) -> bool:
    return member.is_for_each and any(ending in _SUCCESS for ending in driven.case.endings[member.name])


def every_invocation_ends_in_exactly_one_terminal_status(plan: ModuleType, driven: Driven) -> None:
    assert driven.outcomes.keys() == {member.invocation_id for member in driven.run.every_step}
    assert all(outcome.status.is_terminal for outcome in driven.outcomes.values())


def groups_start_whole_and_in_their_order(plan: ModuleType, driven: Driven) -> None:
    of_failure = {member.invocation_id for member in driven.run.failure_steps}
    places = [{(m.invocation_id in of_failure, m.sort_order) for m in group} for group in driven.groups]

    assert all(len(distinct) == 1 for distinct in places)
    assert all(min(earlier) < min(later) for earlier, later in pairwise(places))


def siblings_start_together(plan: ModuleType, driven: Driven) -> None:
    for group in driven.groups:
        steps = driven.run.steps if group[0] in driven.run.steps else driven.run.failure_steps
        able = {m.name for m in steps if m.sort_order == group[0].sort_order and m.skip_reason is None}

        assert {member.name for member in group} == able - driven.case.kept


def what_is_skipped_disabled_or_kept_never_runs(plan: ModuleType, driven: Driven) -> None:
    started = {member.name for member in driven.started}

    assert not started & driven.case.kept
    for member in driven.run.every_step:
        reason = driven.outcomes[member.invocation_id].reason
        if member.skip_reason is not None or reason in ("previous_failed", "run_did_not_fail"):
            assert member.name not in started
        if member.skip_reason is not None and member.name not in driven.case.kept:
            assert driven.status(member) is InvocationStatus.SKIPPED or driven.is_cancelled


def a_step_runs_unless_something_before_it_stopped_the_run(plan: ModuleType, driven: Driven) -> None:
    if driven.is_cancelled:
        return
    for steps in (driven.run.steps, driven.run.failure_steps):
        is_due = steps is driven.run.steps or _has_failed(driven)
        for member in steps:
            broken = any(m.sort_order < member.sort_order and m.on_failure == "stop" for m in _failed(driven, steps))
            runs = is_due and not broken and member.skip_reason is None and member.name not in driven.case.kept

            assert (member in driven.started) == runs, member.name


def after_a_cancellation_nothing_starts(plan: ModuleType, driven: Driven) -> None:
    if driven.is_cancelled and driven.case.cancelled_at is not None:
        assert len(driven.groups) == driven.case.cancelled_at + 1


def the_status_of_a_run_follows_from_its_failed_steps(plan: ModuleType, driven: Driven) -> None:
    statuses = [driven.status(member) for member in driven.run.steps]
    expected = RunStatus.SUCCEEDED
    if InvocationStatus.CANCELLED in statuses:
        expected = RunStatus.CANCELLED
    elif _has_failed(driven):
        expected = RunStatus.FAILED
    elif _failed(driven, driven.run.steps):
        expected = RunStatus.PARTIAL_FAILURE

    assert plan.run_status(driven.run, driven.outcomes) is expected


def a_step_with_a_list_succeeds_when_all_its_items_did(plan: ModuleType, driven: Driven) -> None:
    for member in driven.started:
        endings = driven.case.endings[member.name]
        if member.is_for_each and not driven.is_cancelled:
            outcome = driven.outcomes[member.invocation_id]

            assert (outcome.status is InvocationStatus.SUCCEEDED) == all(ending in _SUCCESS for ending in endings)
            assert outcome.status in (InvocationStatus.SUCCEEDED, InvocationStatus.FAILED)


PROPERTIES = (
    every_invocation_ends_in_exactly_one_terminal_status,
    groups_start_whole_and_in_their_order,
    siblings_start_together,
    what_is_skipped_disabled_or_kept_never_runs,
    a_step_runs_unless_something_before_it_stopped_the_run,
    after_a_cancellation_nothing_starts,
    the_status_of_a_run_follows_from_its_failed_steps,
    a_step_with_a_list_succeeds_when_all_its_items_did,
)

import pytest

from latchflow.gate import Load, Overlap, Rule, Verdict, decide, needed, room


def verdicts(rule: Rule, *loads: tuple[int, int]) -> list[str]:
    return [decide(rule, Load(running=running, waiting=waiting)).verdict.value for running, waiting in loads]


def test_without_a_rule_everything_runs() -> None:
    assert verdicts(Rule(), (0, 0), (7, 0), (7, 7)) == ["run", "run", "run"]
    assert Rule().lets_all_run


def test_as_many_run_as_may_and_more_wait_behind_those_that_came_before() -> None:
    rule = Rule(max_running_events=2)

    assert verdicts(rule, (0, 0), (1, 0), (2, 0), (1, 1)) == ["run", "run", "wait", "wait"]
    assert decide(rule, Load(running=2, waiting=0)).reason == "max_running_events"


def test_skip_runs_one_and_skips_while_it_is_open() -> None:
    rule = Rule(overlap=Overlap.SKIP, max_running_events=5)

    assert verdicts(rule, (0, 0), (1, 0), (0, 1)) == ["run", "skip", "skip"]


def test_buffer_one_keeps_one_waiting_and_skips_more() -> None:
    rule = Rule(overlap=Overlap.BUFFER_ONE)

    assert verdicts(rule, (0, 0), (1, 0), (1, 1), (2, 0), (0, 1)) == ["run", "wait", "skip", "skip", "wait"]


def test_cancel_other_takes_the_place_of_all_others() -> None:
    rule = Rule(overlap=Overlap.CANCEL_OTHER)

    assert verdicts(rule, (0, 0), (1, 0), (1, 1), (0, 3)) == ["run", "wait", "wait", "run"]
    assert not decide(rule, Load(running=0, waiting=0)).cancels_others
    assert decide(rule, Load(running=0, waiting=3)).cancels_others


@pytest.mark.parametrize("overlap", Overlap)
def test_a_pause_lets_the_first_event_wait_whatever_the_rule(overlap: Overlap) -> None:
    decision = decide(Rule(overlap=overlap, is_paused=True), Load(running=0, waiting=0))

    assert (decision.verdict, decision.reason) == (Verdict.WAIT, "paused")


def test_a_pause_changes_nothing_of_what_is_skipped_or_cancelled() -> None:
    skipping = decide(Rule(overlap=Overlap.SKIP, is_paused=True), Load(running=1, waiting=0))
    cancelling = decide(Rule(overlap=Overlap.CANCEL_OTHER, is_paused=True), Load(running=1, waiting=0))

    assert skipping.verdict is Verdict.SKIP
    assert (cancelling.verdict, cancelling.cancels_others) == (Verdict.WAIT, True)


def test_room_is_what_the_rule_leaves_and_nothing_while_paused() -> None:
    assert room(Rule(max_running_events=3), Load(running=1, waiting=9)) == 2
    assert room(Rule(max_running_events=3), Load(running=5, waiting=9)) == 0
    assert room(Rule(overlap=Overlap.SKIP), Load(running=0, waiting=9)) == 1
    assert room(Rule(), Load(running=5, waiting=9)) == 9
    assert room(Rule(is_paused=True), Load(running=0, waiting=9)) == 0


def test_a_load_is_counted_as_far_as_decisions_need_it() -> None:
    assert needed(Rule(max_running_events=7)) == 7
    assert needed(Rule(overlap=Overlap.BUFFER_ONE)) == 2

from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

import pytest

from latchflow import plan
from latchflow.errors import ConflictError, InvalidInputError
from latchflow.model import Manifest, PipelineInForce, StepInForce
from latchflow.repeats import Rerun, StepPoint, StepSource, keep, repeat_now, repeat_then

_NAMESPACE = UUID("6f1d1b62-5a1e-5f0e-9a39-0c8a4f6f3b12")
_OLD, _NEW, _TRIGGER = (uuid5(_NAMESPACE, name) for name in ("old", "new", "trigger"))
_SOURCE = StepSource(when="true", input={"a": "1"}, for_each=None, wait=None)


def _step(name: str, sort_order: int, **fields: Any) -> StepInForce:
    known: dict[str, Any] = {
        "id": uuid5(_NAMESPACE, name),
        "name": name,
        "sort_order": sort_order,
        "is_enabled": True,
        "kind": "action",
        "on_failure": "stop",
        "when": _SOURCE.when,
        "input": _SOURCE.input,
        "retry_policy": None,
        "timeout_seconds": None,
        "action_id": uuid5(_NAMESPACE, f"action of {name}"),
        "action_version": 1,
        "action_name": "an action",
        "is_action_enabled": True,
        "action_retry_policy": {"max_attempts": 2},
        "action_timeout_seconds": 7,
        "plugin": "acme",
        "capability_key": "do",
        "is_inline": False,
    }
    return StepInForce(**{**known, **fields})


def _pipeline(name: str, *steps: StepInForce) -> PipelineInForce:
    return PipelineInForce(id=uuid5(_NAMESPACE, name), name=name, version=3, steps=steps)


_MAIN = _pipeline(
    "main", _step("a", 0), _step("b", 1), _step("beside", 1), _step("c", 2), _step("alarm", 0, is_failure_step=True)
)
_SIDE = _pipeline("side", _step("d", 0), _step("c", 1, id=uuid5(_NAMESPACE, "another c")))


def _past(*pipelines: PipelineInForce) -> Manifest:
    return plan.manifest(_OLD, _TRIGGER, "orders", pipelines)


def _succeeded(manifest: Manifest, *names: str) -> set[UUID]:
    return {step.invocation_id for run in manifest.runs for step in run.every_step if step.name in names}


def _sources(manifest: Manifest) -> dict[UUID, StepSource]:
    return {step.invocation_id: _SOURCE for run in manifest.runs for step in run.every_step}


def _kept(manifest: Manifest, kept: Any) -> set[str]:
    names = {step.invocation_id: step.name for run in manifest.runs for step in run.every_step}
    return {names[invocation_id] for invocation_id in kept.values()}


@pytest.mark.parametrize(
    ("start", "kept", "pipelines"),
    [
        ("start", set(), ["main", "side"]),
        ("failed", {"a", "b", "d"}, ["main", "side"]),
        (StepPoint(step="a"), set(), ["main"]),
        (StepPoint(step="beside"), {"a", "b"}, ["main"]),
        (StepPoint(step="b"), {"a"}, ["main"]),
        (StepPoint(step="c", pipeline_id=_MAIN.id), {"a", "b"}, ["main"]),
        (StepPoint(step="c", pipeline_id=_SIDE.id), {"d"}, ["side"]),
    ],
)
@pytest.mark.parametrize("definitions", ["now", "then"])
def test_what_succeeded_and_does_not_come_after_the_point_is_kept(
    start: Any, kept: set[str], pipelines: list[str], definitions: Any
) -> None:
    past = _past(_MAIN, _SIDE)
    done = _succeeded(past, "a", "b", "d", "alarm")
    rerun = Rerun(start=start, definitions=definitions)

    if definitions == "now":
        repeat = repeat_now(past, [_MAIN, _SIDE], done, rerun)
    else:
        repeat = repeat_then(past, _sources(past), done, rerun)

    assert _kept(past, repeat.kept) == kept
    assert [pipeline.name for pipeline in repeat.pipelines] == pipelines


def test_what_was_then_gives_the_same_manifest_but_for_its_ids() -> None:
    disabled = _pipeline("off", _step("x", 0, is_enabled=False), _step("y", 1, is_action_enabled=False, wait=None))
    listed = _pipeline("list", _step("z", 0, for_each="[1]", max_parallel=3, kind="delay"))
    past = _past(_MAIN, disabled, listed)
    sources = {
        step.invocation_id: replace(_SOURCE, for_each="[1]" if step.is_for_each else None)
        for run in past.runs
        for step in run.every_step
    }

    repeat = repeat_then(past, sources, set(), Rerun(definitions="then"))

    assert plan.manifest(_OLD, _TRIGGER, "orders", repeat.pipelines) == past


def test_the_kept_steps_are_marked_and_paired_with_those_they_repeat() -> None:
    past = _past(_MAIN)
    repeat = repeat_now(past, [_MAIN], _succeeded(past, "a", "c"), Rerun(start="failed"))

    manifest, repeats = keep(plan.manifest(_NEW, _TRIGGER, "orders", repeat.pipelines), repeat.kept)

    assert {step.name for step in manifest.runs[0].every_step if step.is_kept} == {"a", "c"}
    old = {step.invocation_id: step.name for step in past.runs[0].steps}
    new = {step.invocation_id: step.name for step in manifest.runs[0].steps}
    assert {new[key]: old[value] for key, value in repeats.items()} == {"a": "a", "c": "c"}
    assert not set(old) & set(new)


def test_pipelines_that_the_event_did_not_have_are_owed_from_the_start_only() -> None:
    past = _past(_MAIN)

    owed = [
        [pipeline.name for pipeline in repeat_now(past, [_MAIN, _SIDE], set(), Rerun(start=start)).pipelines]
        for start in ("start", "failed")
    ]

    assert owed == [["main", "side"], ["main"]]


def test_a_step_is_found_by_its_id_before_its_name() -> None:
    past = _past(_MAIN)
    (a,) = _succeeded(past, "a")
    swapped = _pipeline("main", _step("b", 0, id=uuid5(_NAMESPACE, "a")), _step("a", 1, id=uuid5(_NAMESPACE, "b")))

    repeat = repeat_now(past, [swapped], {a}, Rerun(start="failed"))

    assert repeat.kept == {(_MAIN.id, uuid5(_NAMESPACE, "a")): a}


@pytest.mark.parametrize(
    "now", [[], [_pipeline("main", _step("b", 1))], [_SIDE]], ids=["none", "step gone", "detached"]
)
def test_a_kept_step_that_is_gone_is_named(now: list[PipelineInForce]) -> None:
    past = _past(_MAIN)
    done = _succeeded(past, "a")

    with pytest.raises(ConflictError, match=r"'a' of 'main'"):
        repeat_now(past, now, done, Rerun(start="failed"))


def test_the_step_to_begin_with_must_still_be_there() -> None:
    past = _past(_MAIN)

    with pytest.raises(ConflictError, match=r"'b' of 'main'"):
        repeat_now(past, [_pipeline("main", _step("a", 0))], set(), Rerun(start=StepPoint(step="b")))


@pytest.mark.parametrize("step", ["nowhere", "alarm"])
def test_only_an_ordinary_step_can_be_begun_with(step: str) -> None:
    past = _past(_MAIN)

    with pytest.raises(InvalidInputError, match="Its steps are: 'a', 'b', 'beside', 'c'"):
        repeat_now(past, [_MAIN], set(), Rerun(start=StepPoint(step=step)))


def test_a_name_that_several_pipelines_have_needs_the_pipeline() -> None:
    past = _past(_MAIN, _SIDE)

    with pytest.raises(InvalidInputError, match="Several pipelines have a step 'c'"):
        repeat_now(past, [_MAIN, _SIDE], set(), Rerun(start=StepPoint(step="c")))

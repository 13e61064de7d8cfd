"""Pure decisions of a re-run: what it keeps of the event that it repeats, and what the new event owes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal
from uuid import UUID

from latchflow import plan
from latchflow.errors import ConflictError, FieldError, InvalidInputError
from latchflow.model import Manifest, PipelineInForce, PlannedRun, PlannedStep, StepInForce

StepKey = tuple[UUID, UUID]
"""A pipeline's id and the id of one of its steps."""


@dataclass(frozen=True, kw_only=True)
class StepPoint:
    """A step to re-run from.

    Attributes:
        pipeline_id: None where only one pipeline of the event has a step of this name.
    """

    step: str
    pipeline_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """What is asked for.

    Attributes:
        start: ``start`` keeps nothing, ``failed`` every step that succeeded; a step keeps those that succeeded and do
            not come after it.
        definitions: Those of ``now``, or those that the event had ``then``.
    """

    start: Literal["start", "failed"] | StepPoint = "start"
    definitions: Literal["now", "then"] = "now"


@dataclass(frozen=True, kw_only=True)
class StepSource:
    """The expressions of a step, which are kept with its invocation and not in the manifest."""

    when: str | None
    input: Mapping[str, Any] | None
    for_each: str | None
    wait: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Repeat:
    """What a re-run comes to.

    Attributes:
        pipelines: What the new event owes.
        kept: By step of the new event, the invocation whose output it keeps.
    """

    pipelines: Sequence[PipelineInForce]
    kept: Mapping[StepKey, UUID]


def runs_repeated(manifest: Manifest, start: Literal["start", "failed"] | StepPoint) -> Sequence[PlannedRun]:
    """The runs of an event that a re-run repeats: all, or that of the named step alone.

    Raises:
        InvalidInputError: There is no such step, or several pipelines have one of this name.
    """
    if not isinstance(start, StepPoint):
        return manifest.runs
    found = [
        run
        for run in manifest.runs
        if start.pipeline_id in (None, run.pipeline_id) and any(step.name == start.step for step in run.steps)
    ]
    if not found:
        names = ", ".join(sorted({repr(step.name) for run in manifest.runs for step in run.steps}))
        raise _bad_start(f"The event has no step {start.step!r} to begin with. Its steps are: {names or 'none'}.")
    if len(found) > 1:
        where = ", ".join(f"{run.pipeline_id} ({run.pipeline_name})" for run in found)
        raise _bad_start(
            f"Several pipelines have a step {start.step!r}. Say which: "
            f'{{"pipelineId": …, "step": {start.step!r}}}, of {where}.'
        )
    return found


def steps_kept(
    run: PlannedRun, succeeded: Collection[UUID], start: Literal["start", "failed"] | StepPoint
) -> Sequence[PlannedStep]:
    """The steps of a run whose outputs are kept; never those for its failure, which a new failure needs again.

    Args:
        run: Of the event that is repeated.
        succeeded: The invocations that succeeded.
        start: Where the new event begins.
    """
    if start == "start":
        return ()
    done = [step for step in run.steps if step.invocation_id in succeeded]
    if not isinstance(start, StepPoint):
        return done
    point = next(step for step in run.steps if step.name == start.step)
    return [step for step in done if step.sort_order <= point.sort_order and step is not point]


def repeat_then(
    manifest: Manifest, sources: Mapping[UUID, StepSource], succeeded: Collection[UUID], rerun: Rerun
) -> Repeat:
    """A re-run with the steps and the versions that the event had.

    Args:
        manifest: Of the event that is repeated.
        sources: The expressions of its steps, by invocation.
        succeeded: The invocations that succeeded.
        rerun: What is asked for.

    Raises:
        InvalidInputError: As `runs_repeated`.
    """
    runs = runs_repeated(manifest, rerun.start)
    kept = {
        (run.pipeline_id, step.step_id): step.invocation_id
        for run in runs
        for step in steps_kept(run, succeeded, rerun.start)
    }
    return Repeat(pipelines=[_pipeline_then(run, sources) for run in runs], kept=kept)


def repeat_now(
    manifest: Manifest, pipelines: Sequence[PipelineInForce], succeeded: Collection[UUID], rerun: Rerun
) -> Repeat:
    """A re-run with the definitions in force, in which the steps are found by id, else by name.

    From the start, everything in force is owed; else only the pipelines that the event had.

    Args:
        manifest: Of the event that is repeated.
        pipelines: Those in force.
        succeeded: The invocations that succeeded.
        rerun: What is asked for.

    Raises:
        InvalidInputError: As `runs_repeated`.
        ConflictError: A step that is kept, or begun with, is no longer there.
    """
    runs = runs_repeated(manifest, rerun.start)
    if rerun.start == "start":
        return Repeat(pipelines=pipelines, kept={})
    in_force = {pipeline.id: pipeline for pipeline in pipelines}
    kept: dict[StepKey, UUID] = {}
    missing = []
    for run in runs:
        for step in steps_kept(run, succeeded, rerun.start):
            found = _step_now(in_force.get(run.pipeline_id), step)
            if found is None:
                missing.append(f"{step.name!r} of {run.pipeline_name!r}")
            else:
                kept[run.pipeline_id, found.id] = step.invocation_id
        if isinstance(rerun.start, StepPoint):
            point = next(step for step in run.steps if step.name == rerun.start.step)
            if _step_now(in_force.get(run.pipeline_id), point) is None:
                missing.append(f"{point.name!r} of {run.pipeline_name!r}")
    if missing:
        raise ConflictError(
            f"No longer there, or of a pipeline that is not in force for the trigger: {', '.join(missing)}. "
            'Put them back, re-run with "definitions": "then", or from the start.'
        )
    repeated = {run.pipeline_id for run in runs}
    return Repeat(pipelines=[pipeline for pipeline in pipelines if pipeline.id in repeated], kept=kept)


def keep(manifest: Manifest, kept: Mapping[StepKey, UUID]) -> tuple[Manifest, Mapping[UUID, UUID]]:
    """The manifest of the new event with its kept steps marked, and by kept invocation the one it repeats."""
    repeats = {
        step.invocation_id: kept[run.pipeline_id, step.step_id]
        for run in manifest.runs
        for step in run.steps
        if (run.pipeline_id, step.step_id) in kept
    }
    runs = tuple(
        replace(run, steps=tuple(replace(step, is_kept=step.invocation_id in repeats) for step in run.steps))
        for run in manifest.runs
    )
    return replace(manifest, runs=runs), repeats


def _pipeline_then(run: PlannedRun, sources: Mapping[UUID, StepSource]) -> PipelineInForce:
    failure_ids = {step.invocation_id for step in run.failure_steps}
    return PipelineInForce(
        id=run.pipeline_id,
        name=run.pipeline_name,
        version=run.pipeline_version,
        steps=tuple(
            _step_then(step, sources[step.invocation_id], is_failure_step=step.invocation_id in failure_ids)
            for step in run.every_step
        ),
    )


def _step_then(step: PlannedStep, source: StepSource, *, is_failure_step: bool) -> StepInForce:
    return StepInForce(
        id=step.step_id,
        name=step.name,
        sort_order=step.sort_order,
        is_enabled=step.skip_reason != plan.STEP_DISABLED,
        kind=step.kind,
        on_failure=step.on_failure,
        when=source.when,
        input=source.input,
        retry_policy=asdict(step.retry_policy),
        timeout_seconds=step.timeout_seconds,
        action_id=step.action_id,
        action_version=step.action_version,
        action_name=step.action_name or None,
        is_action_enabled=step.skip_reason != plan.ACTION_DISABLED,
        action_retry_policy=None,
        action_timeout_seconds=None,
        plugin=step.plugin or None,
        capability_key=step.capability_key or None,
        is_inline=step.is_inline,
        for_each=source.for_each,
        max_parallel=step.max_parallel,
        wait=source.wait,
        is_failure_step=is_failure_step,
    )


def _step_now(pipeline: PipelineInForce | None, step: PlannedStep) -> StepInForce | None:
    steps = [] if pipeline is None else [found for found in pipeline.steps if not found.is_failure_step]
    by_id = next((found for found in steps if found.id == step.step_id), None)
    return by_id or next((found for found in steps if found.name == step.name), None)


def _bad_start(message: str) -> InvalidInputError:
    return InvalidInputError(message, [FieldError(pointer="/from", message=message)])

"""Pipelines and steps from what the stores return to what the API sends, and back."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from api.documents import plain
from api.schemas.pipelines import Pipeline, Step, StepCreate
from latchflow.store import pipelines

_WAIT_FIELDS = {
    "for_": "for",
    "until": "until",
    "approvers": "approvers",
    "timeout": "timeout",
    "on_timeout": "onTimeout",
}
"""Fields of a step that the stores keep together, by their Python names."""


def step_values(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a stored step; what it waits for under ``wait``."""
    values = {name: value for name, value in plain(fields).items() if name not in _WAIT_FIELDS}
    wait = {_WAIT_FIELDS[name]: value for name, value in fields.items() if name in _WAIT_FIELDS}
    return {**values, "wait": wait} if wait else values


def new_step_values(step: StepCreate) -> dict[str, Any]:
    """The same of a whole new step."""
    return step_values(step.model_dump())


def step_of(step: pipelines.Step) -> Step:
    """A step as people read it."""
    fields = asdict(step)
    wait = fields.pop("wait") or {}
    return Step.model_validate({**fields, **{name: wait.get(key) for name, key in _WAIT_FIELDS.items()}})


def pipeline_of(pipeline: pipelines.Pipeline) -> Pipeline:
    """A pipeline as people read it."""
    return Pipeline(
        id=pipeline.id,
        name=pipeline.name,
        description=pipeline.description,
        is_enabled=pipeline.is_enabled,
        triggers=[asdict(trigger) for trigger in pipeline.triggers],
        steps=[step_of(step) for step in pipeline.steps],
        on_failure_steps=[step_of(step) for step in pipeline.on_failure_steps],
        version=pipeline.version,
        created_at=pipeline.created_at,
        updated_at=pipeline.updated_at,
    )

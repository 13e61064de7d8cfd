"""The steps of a pipeline. A change of one is a new version of the pipeline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID, uuid4

from psycopg import errors
from psycopg.types.json import Jsonb

from latchflow.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from latchflow.step_checks import check_references, check_step
from latchflow.store.database import Connection
from latchflow.store.pipeline_parts import changed, require, update
from latchflow.store.pipelines import Pipeline, Step, get_pipeline
from latchflow.store.versions import Expected, check_version

MAX_STEPS = 500
"""Of one pipeline: all of them travel in one input of Temporal's, which takes 2 MiB."""


async def add_step(
    connection: Connection, pipeline_id: UUID, values: Mapping[str, Any], *, actor: str
) -> tuple[Pipeline, Step]:
    """Add a step; the connection is inside a transaction.

    Args:
        connection: Inside a transaction.
        pipeline_id: Which pipeline.
        values: The fields of `Step` but its id; ``sort_order`` None: behind the others.
        actor: Who adds it.

    Raises:
        NotFoundError: There is no such pipeline.
        InvalidInputError: There is no such action, or an expression does not compile.
        ConflictError: The pipeline has a step of this name.
    """
    await get_pipeline(connection, pipeline_id, lock=True)
    step_id = await insert_step(connection, pipeline_id, values, pointer="")
    pipeline = await _steps_changed(connection, pipeline_id, actor)
    return pipeline, find_step(pipeline, step_id)


async def change_step(
    connection: Connection,
    pipeline_id: UUID,
    step_id: UUID,
    changes: Mapping[str, Any],
    *,
    expected: Expected,
    actor: str,
) -> tuple[Pipeline, Step]:
    """Change some fields of a step; the connection is inside a transaction.

    Raises:
        NotFoundError: There is no such pipeline or step.
        VersionConflictError: The pipeline has another version by now.
        InvalidInputError: There is no such action, or an expression does not compile.
        ConflictError: The pipeline has another step of this name.
    """
    pipeline = await get_pipeline(connection, pipeline_id, lock=True)
    step = find_step(pipeline, step_id)
    check_version("pipeline", pipeline.version, expected)
    if not changes:
        return pipeline, step
    if "wait" in changes:
        merged = {**(step.wait or {}), **changes["wait"]}
        changes = {**changes, "wait": {name: value for name, value in merged.items() if value is not None} or None}
    after = {**asdict(step), **changes}
    _refuse(after["name"], check_step(after, ""))
    if changes.get("action_id") is not None:
        await require(connection, "action", changes["action_id"], "/actionId")
    try:
        await update(connection, "pipeline_steps", {"id": step_id}, _columns(changes))
    except errors.UniqueViolation:
        raise _step_name_taken(after["name"]) from None
    pipeline = await _steps_changed(connection, pipeline_id, actor)
    return pipeline, find_step(pipeline, step_id)


async def remove_step(
    connection: Connection, pipeline_id: UUID, step_id: UUID, *, expected: Expected, actor: str
) -> Pipeline:
    """Remove a step; the connection is inside a transaction.

    Raises:
        NotFoundError: There is no such pipeline or step.
        VersionConflictError: The pipeline has another version by now.
        InvalidInputError: An expression of another step names it.
    """
    pipeline = await get_pipeline(connection, pipeline_id, lock=True)
    find_step(pipeline, step_id)
    check_version("pipeline", pipeline.version, expected)
    await connection.execute("DELETE FROM pipeline_steps WHERE id = %s", (step_id,))
    return await _steps_changed(connection, pipeline_id, actor)


def find_step(pipeline: Pipeline, step_id: UUID) -> Step:
    """The step.

    Raises:
        NotFoundError: The pipeline has none with this id.
    """
    for step in pipeline.steps:
        if step.id == step_id:
            return step
    raise NotFoundError(f"The pipeline {pipeline.name!r} has no step {step_id}.")


async def replace_failure_steps(
    connection: Connection, pipeline_id: UUID, steps: Sequence[Mapping[str, Any]], *, pointer: str
) -> None:
    """Put these steps for a failure in the place of those there are. Raises as `add_step`."""
    await connection.execute("DELETE FROM pipeline_steps WHERE pipeline_id = %s AND is_failure_step", (pipeline_id,))
    for position, step in enumerate(steps):
        await insert_step(connection, pipeline_id, step, pointer=f"{pointer}/{position}", is_failure_step=True)


def refuse_references(pipeline: Pipeline) -> None:
    """Refuse a pipeline whose expressions name steps that do not come before their own.

    Raises:
        InvalidInputError: With every such name.
    """
    faults = list(check_references(pipeline.steps, pipeline.on_failure_steps))
    if faults:
        raise InvalidInputError(f"Steps of the pipeline {pipeline.name!r} name others they cannot see.", faults)


async def insert_step(
    connection: Connection,
    pipeline_id: UUID,
    values: Mapping[str, Any],
    *,
    pointer: str,
    is_failure_step: bool = False,
) -> UUID:
    """The row alone, for `add_step` and for creating a whole pipeline; `pointer` is where the request names it."""
    values = {**values, "wait": {name: value for name, value in (values["wait"] or {}).items() if value is not None}}
    _refuse(values["name"], check_step(values, pointer))
    await _check_room(connection, pipeline_id)
    if values["action_id"] is not None:
        await require(connection, "action", values["action_id"], f"{pointer}/actionId")
    step_id = uuid4()
    try:
        await connection.execute(
            """
            INSERT INTO pipeline_steps (id, pipeline_id, name, kind, action_id, sort_order, is_enabled,
                                        when_expression, input, on_failure, retry_policy, timeout_seconds,
                                        for_each_expression, max_parallel, wait, is_failure_step)
            SELECT %(id)s, %(pipeline_id)s, %(name)s, %(kind)s, %(action_id)s,
                   coalesce(%(sort_order)s::integer, max(sort_order) + 1, 0), %(is_enabled)s, %(when_expression)s,
                   %(input)s::jsonb, %(on_failure)s, %(retry_policy)s::jsonb, %(timeout_seconds)s::integer,
                   %(for_each_expression)s, %(max_parallel)s::integer, %(wait)s::jsonb, %(is_failure_step)s
            FROM pipeline_steps WHERE pipeline_id = %(pipeline_id)s AND is_failure_step = %(is_failure_step)s
            """,
            {**_columns(values), "id": step_id, "pipeline_id": pipeline_id, "is_failure_step": is_failure_step},
        )
    except errors.UniqueViolation:
        raise _step_name_taken(values["name"]) from None
    return step_id


async def _steps_changed(connection: Connection, pipeline_id: UUID, actor: str) -> Pipeline:
    pipeline = await changed(connection, pipeline_id, "steps", actor)
    refuse_references(pipeline)
    return pipeline


def _refuse(step_name: str, faults: Iterable[FieldError]) -> None:
    found = list(faults)
    if found:
        raise InvalidInputError(f"The step {step_name!r} cannot be carried out as it stands.", found)


async def _check_room(connection: Connection, pipeline_id: UUID) -> None:
    row = await (
        await connection.execute("SELECT count(*) AS steps FROM pipeline_steps WHERE pipeline_id = %s", (pipeline_id,))
    ).fetchone()
    if row is not None and row["steps"] >= MAX_STEPS:
        raise ConflictError(f"The pipeline has {MAX_STEPS} steps, the most it may have. Divide it.")


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    columns = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in values.items()}
    for name in ("when", "for_each"):
        if name in columns:
            columns[f"{name}_expression"] = columns.pop(name)
    if "wait" in values and not values["wait"]:
        columns["wait"] = None
    return columns


def _step_name_taken(name: str) -> ConflictError:
    return ConflictError(f"The pipeline has a step named {name!r} already.")

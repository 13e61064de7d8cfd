"""The triggers and steps of a pipeline. A change of a part is a new version of its pipeline."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from psycopg import errors, sql
from psycopg.types.json import Jsonb

from latchflow.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from latchflow.expression_checks import check_expressions
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.database import Connection
from latchflow.store.pipelines import Pipeline, PipelineTrigger, Step, get_pipeline
from latchflow.store.versions import Expected, check_version

MAX_STEPS = 500
"""Of one pipeline: all of them travel in one input of Temporal's, which takes 2 MiB."""

MAX_INPUT_BYTES = 64 * 1024


async def add_trigger(connection: Connection, pipeline_id: UUID, values: Mapping[str, Any], *, actor: str) -> Pipeline:
    """Attach a trigger; the connection is inside a transaction.

    Args:
        connection: Inside a transaction.
        pipeline_id: Which pipeline.
        values: ``trigger_id``, ``sort_order`` (None: behind the others), ``is_enabled``.
        actor: Who attaches it.

    Raises:
        NotFoundError: There is no such pipeline.
        InvalidInputError: There is no such trigger.
        ConflictError: It is attached already.
    """
    await get_pipeline(connection, pipeline_id, lock=True)
    await insert_trigger(connection, pipeline_id, values, pointer="")
    return await _changed(connection, pipeline_id, "triggers", actor)


async def change_trigger(
    connection: Connection,
    pipeline_id: UUID,
    trigger_id: UUID,
    changes: Mapping[str, Any],
    *,
    expected: Expected,
    actor: str,
) -> Pipeline:
    """Change ``sort_order`` or ``is_enabled``; the connection is inside a transaction.

    Raises:
        NotFoundError: There is no such pipeline, or the trigger is not attached to it.
        VersionConflictError: The pipeline has another version by now.
    """
    pipeline = await get_pipeline(connection, pipeline_id, lock=True)
    find_trigger(pipeline, trigger_id)
    check_version("pipeline", pipeline.version, expected)
    if not changes:
        return pipeline
    where = {"pipeline_id": pipeline_id, "trigger_id": trigger_id}
    await _update(connection, "pipeline_triggers", where, changes)
    return await _changed(connection, pipeline_id, "triggers", actor)


async def remove_trigger(
    connection: Connection, pipeline_id: UUID, trigger_id: UUID, *, expected: Expected, actor: str
) -> Pipeline:
    """Detach a trigger; the connection is inside a transaction. Raises as `change_trigger`."""
    pipeline = await get_pipeline(connection, pipeline_id, lock=True)
    find_trigger(pipeline, trigger_id)
    check_version("pipeline", pipeline.version, expected)
    await connection.execute(
        "DELETE FROM pipeline_triggers WHERE pipeline_id = %s AND trigger_id = %s", (pipeline_id, trigger_id)
    )
    return await _changed(connection, pipeline_id, "triggers", actor)


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
    pipeline = await _changed(connection, pipeline_id, "steps", actor)
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
    name = changes.get("name", step.name)
    _check_expressions(name, changes, "")
    if "action_id" in changes:
        await _require(connection, "action", changes["action_id"], "/actionId")
    try:
        await _update(connection, "pipeline_steps", {"id": step_id}, _columns(changes))
    except errors.UniqueViolation:
        raise _step_name_taken(name) from None
    pipeline = await _changed(connection, pipeline_id, "steps", actor)
    return pipeline, find_step(pipeline, step_id)


async def remove_step(
    connection: Connection, pipeline_id: UUID, step_id: UUID, *, expected: Expected, actor: str
) -> Pipeline:
    """Remove a step; the connection is inside a transaction.

    Raises:
        NotFoundError: There is no such pipeline or step.
        VersionConflictError: The pipeline has another version by now.
    """
    pipeline = await get_pipeline(connection, pipeline_id, lock=True)
    find_step(pipeline, step_id)
    check_version("pipeline", pipeline.version, expected)
    await connection.execute("DELETE FROM pipeline_steps WHERE id = %s", (step_id,))
    return await _changed(connection, pipeline_id, "steps", actor)


def find_trigger(pipeline: Pipeline, trigger_id: UUID) -> PipelineTrigger:
    """The attached trigger.

    Raises:
        NotFoundError: It is not attached.
    """
    for trigger in pipeline.triggers:
        if trigger.trigger_id == trigger_id:
            return trigger
    raise NotFoundError(f"The trigger {trigger_id} is not attached to the pipeline {pipeline.name!r}.")


def find_step(pipeline: Pipeline, step_id: UUID) -> Step:
    """The step.

    Raises:
        NotFoundError: The pipeline has none with this id.
    """
    for step in pipeline.steps:
        if step.id == step_id:
            return step
    raise NotFoundError(f"The pipeline {pipeline.name!r} has no step {step_id}.")


async def insert_trigger(connection: Connection, pipeline_id: UUID, values: Mapping[str, Any], *, pointer: str) -> None:
    """The row alone, for `add_trigger` and for creating a whole pipeline; `pointer` is where the request names it."""
    await _require(connection, "trigger", values["trigger_id"], f"{pointer}/triggerId")
    try:
        await connection.execute(
            """
            INSERT INTO pipeline_triggers (pipeline_id, trigger_id, sort_order, is_enabled)
            SELECT %(pipeline_id)s, %(trigger_id)s, coalesce(%(sort_order)s::integer, max(sort_order) + 1, 0),
                   %(is_enabled)s
            FROM pipeline_triggers WHERE pipeline_id = %(pipeline_id)s
            """,
            {**values, "pipeline_id": pipeline_id},
        )
    except errors.UniqueViolation:
        raise ConflictError(f"The trigger {values['trigger_id']} is attached to this pipeline already.") from None


async def insert_step(connection: Connection, pipeline_id: UUID, values: Mapping[str, Any], *, pointer: str) -> UUID:
    """The row alone, for `add_step` and for creating a whole pipeline; `pointer` is where the request names it."""
    _check_expressions(values["name"], values, pointer)
    await _check_room(connection, pipeline_id)
    await _require(connection, "action", values["action_id"], f"{pointer}/actionId")
    step_id = uuid4()
    try:
        await connection.execute(
            """
            INSERT INTO pipeline_steps (id, pipeline_id, name, kind, action_id, sort_order, is_enabled,
                                        when_expression, input, on_failure, retry_policy, timeout_seconds)
            SELECT %(id)s, %(pipeline_id)s, %(name)s, %(kind)s, %(action_id)s,
                   coalesce(%(sort_order)s::integer, max(sort_order) + 1, 0), %(is_enabled)s, %(when_expression)s,
                   %(input)s::jsonb, %(on_failure)s, %(retry_policy)s::jsonb, %(timeout_seconds)s::integer
            FROM pipeline_steps WHERE pipeline_id = %(pipeline_id)s
            """,
            {**_columns(values), "id": step_id, "pipeline_id": pipeline_id},
        )
    except errors.UniqueViolation:
        raise _step_name_taken(values["name"]) from None
    return step_id


async def _require(connection: Connection, noun: str, definition_id: UUID, pointer: str) -> None:
    # The lock keeps the definition from being deleted before the part that names it is committed.
    table = sql.Identifier(f"{noun}_definitions")
    statement = sql.SQL("SELECT 1 FROM {} WHERE id = %s FOR KEY SHARE").format(table)
    if await (await connection.execute(statement, (definition_id,))).fetchone() is None:
        message = f"There is no {noun} {definition_id}."
        raise InvalidInputError(message, [FieldError(pointer=pointer, message=message)])


async def _check_room(connection: Connection, pipeline_id: UUID) -> None:
    row = await (
        await connection.execute("SELECT count(*) AS steps FROM pipeline_steps WHERE pipeline_id = %s", (pipeline_id,))
    ).fetchone()
    if row is not None and row["steps"] >= MAX_STEPS:
        raise ConflictError(f"The pipeline has {MAX_STEPS} steps, the most it may have. Divide it.")


def _check_expressions(step_name: str, values: Mapping[str, Any], pointer: str) -> None:
    faults: list[FieldError] = []
    for field, is_template in (("when", False), ("input", True)):
        if values.get(field) is not None:
            where = f"step {step_name!r}, {field}"
            faults.extend(check_expressions(values[field], f"{pointer}/{field}", where=where, is_template=is_template))
            if len(json.dumps(values[field])) > MAX_INPUT_BYTES:
                message = f"{where}: over {MAX_INPUT_BYTES} bytes of JSON. Let the step read large values from outputs."
                faults.append(FieldError(pointer=f"{pointer}/{field}", message=message))
    if faults:
        raise InvalidInputError(f"The step {step_name!r} holds expressions that do not compile.", faults)


def _columns(values: Mapping[str, Any]) -> dict[str, Any]:
    columns = {name: Jsonb(value) if isinstance(value, dict) else value for name, value in values.items()}
    if "when" in columns:
        columns["when_expression"] = columns.pop("when")
    return columns


def _step_name_taken(name: str) -> ConflictError:
    return ConflictError(f"The pipeline has a step named {name!r} already.")


async def _update(connection: Connection, table: str, where: Mapping[str, UUID], changes: Mapping[str, Any]) -> None:
    def equals(names: Sequence[str]) -> list[sql.Composed]:
        return [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in names]

    statement = sql.SQL("UPDATE {} SET {} WHERE {}").format(
        sql.Identifier(table), sql.SQL(", ").join(equals([*changes])), sql.SQL(" AND ").join(equals([*where]))
    )
    await connection.execute(statement, {**changes, **where})


async def _changed(connection: Connection, pipeline_id: UUID, field: str, actor: str) -> Pipeline:
    await connection.execute(
        "UPDATE pipelines SET version = version + 1, updated_at = now() WHERE id = %s", (pipeline_id,)
    )
    pipeline = await get_pipeline(connection, pipeline_id)
    change = Change(
        object="pipeline",
        id=pipeline_id,
        name=pipeline.name,
        operation="update",
        fields=[field],
        version=pipeline.version,
    )
    await record_change(connection, change, actor=actor)
    return pipeline

"""Creating, changing and deleting pipelines, each with its audit entry in the same transaction."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID, uuid4

from psycopg import errors, sql

from latchflow.errors import ConflictError
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.database import Connection
from latchflow.store.pipeline_steps import insert_step, refuse_references, replace_failure_steps
from latchflow.store.pipeline_triggers import insert_trigger
from latchflow.store.pipelines import Pipeline, get_pipeline
from latchflow.store.versions import Expected, check_version


async def create_pipeline(
    connection: Connection,
    values: Mapping[str, Any],
    *,
    triggers: Sequence[Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]],
    on_failure_steps: Sequence[Mapping[str, Any]] = (),
    actor: str,
) -> Pipeline:
    """Store a new pipeline with its parts; the connection is inside a transaction.

    Args:
        connection: Inside a transaction.
        values: ``name``, ``description``, ``is_enabled``.
        triggers: As for `add_trigger`.
        steps: As for `add_step`.
        on_failure_steps: Those for a failure, as for `add_step`.
        actor: Who creates it.

    Raises:
        InvalidInputError: A part names what does not exist, or an expression does not compile.
        ConflictError: The name is taken, or two parts are the same.
    """
    pipeline_id = uuid4()
    try:
        await connection.execute(
            """
            INSERT INTO pipelines (id, name, description, is_enabled, version)
            VALUES (%(id)s, %(name)s, %(description)s, %(is_enabled)s, 1)
            """,
            {**values, "id": pipeline_id},
        )
    except errors.UniqueViolation:
        raise _name_taken(values["name"]) from None
    for position, trigger in enumerate(triggers):
        await insert_trigger(connection, pipeline_id, trigger, pointer=f"/triggers/{position}")
    for position, step in enumerate(steps):
        await insert_step(connection, pipeline_id, step, pointer=f"/steps/{position}")
    await replace_failure_steps(connection, pipeline_id, on_failure_steps, pointer="/onFailureSteps")
    pipeline = await get_pipeline(connection, pipeline_id)
    refuse_references(pipeline)
    await _record(connection, pipeline, "create", [*values, "triggers", "steps", "onFailureSteps"], actor)
    return pipeline


async def change_pipeline(
    connection: Connection, pipeline_id: UUID, changes: Mapping[str, Any], *, expected: Expected, actor: str
) -> Pipeline:
    """Change ``name``, ``description``, ``is_enabled`` or all ``on_failure_steps``, inside a transaction.

    Raises:
        NotFoundError: There is none with this id.
        VersionConflictError: It has another version by now.
        InvalidInputError: A step for a failure cannot be carried out.
        ConflictError: The name is taken, or that of a step.
    """
    current = await get_pipeline(connection, pipeline_id, lock=True)
    check_version("pipeline", current.version, expected)
    if not changes:
        return current
    columns = {name: value for name, value in changes.items() if name != "on_failure_steps"}
    assignments = [sql.SQL("{} = {}, ").format(sql.Identifier(name), sql.Placeholder(name)) for name in columns]
    statement = sql.SQL("UPDATE pipelines SET {}version = version + 1, updated_at = now() WHERE id = %(id)s")
    try:
        await connection.execute(statement.format(sql.SQL("").join(assignments)), {**columns, "id": pipeline_id})
    except errors.UniqueViolation:
        raise _name_taken(changes["name"]) from None
    if "on_failure_steps" in changes:
        await replace_failure_steps(connection, pipeline_id, changes["on_failure_steps"], pointer="/onFailureSteps")
    pipeline = await get_pipeline(connection, pipeline_id)
    refuse_references(pipeline)
    await _record(connection, pipeline, "update", list(changes), actor)
    return pipeline


async def delete_pipeline(connection: Connection, pipeline_id: UUID, *, expected: Expected, actor: str) -> None:
    """Delete a pipeline with its parts; the connection is inside a transaction.

    Raises:
        NotFoundError: There is none with this id.
        VersionConflictError: It has another version by now.
    """
    pipeline = await get_pipeline(connection, pipeline_id, lock=True)
    check_version("pipeline", pipeline.version, expected)
    await connection.execute("DELETE FROM pipelines WHERE id = %s", (pipeline_id,))
    await _record(connection, pipeline, "delete", [], actor)


def _name_taken(name: str) -> ConflictError:
    return ConflictError(f"There is already a pipeline named {name!r}.")


async def _record(
    connection: Connection, pipeline: Pipeline, operation: str, fields: Sequence[str], actor: str
) -> None:
    change = Change(
        object="pipeline",
        id=pipeline.id,
        name=pipeline.name,
        operation=operation,
        fields=fields,
        version=pipeline.version,
    )
    await record_change(connection, change, actor=actor)

"""The triggers of a pipeline. A change of one is a new version of the pipeline."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from psycopg import errors

from latchflow.errors import ConflictError, NotFoundError
from latchflow.store.database import Connection
from latchflow.store.pipeline_parts import changed, require, update
from latchflow.store.pipelines import Pipeline, PipelineTrigger, get_pipeline
from latchflow.store.versions import Expected, check_version


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
    return await changed(connection, pipeline_id, "triggers", actor)


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
    await update(connection, "pipeline_triggers", where, changes)
    return await changed(connection, pipeline_id, "triggers", actor)


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
    return await changed(connection, pipeline_id, "triggers", actor)


def find_trigger(pipeline: Pipeline, trigger_id: UUID) -> PipelineTrigger:
    """The attached trigger.

    Raises:
        NotFoundError: It is not attached.
    """
    for trigger in pipeline.triggers:
        if trigger.trigger_id == trigger_id:
            return trigger
    raise NotFoundError(f"The trigger {trigger_id} is not attached to the pipeline {pipeline.name!r}.")


async def insert_trigger(connection: Connection, pipeline_id: UUID, values: Mapping[str, Any], *, pointer: str) -> None:
    """The row alone, for `add_trigger` and for creating a whole pipeline; `pointer` is where the request names it."""
    await require(connection, "trigger", values["trigger_id"], f"{pointer}/triggerId")
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

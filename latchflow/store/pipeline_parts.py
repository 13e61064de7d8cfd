"""What the triggers and the steps of a pipeline share when they change."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import sql

from latchflow.errors import FieldError, InvalidInputError
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.database import Connection
from latchflow.store.pipelines import Pipeline, get_pipeline


async def require(connection: Connection, noun: str, definition_id: UUID, pointer: str) -> None:
    """Refuse a definition that is not there.

    Raises:
        InvalidInputError: At the pointer.
    """
    # The lock keeps the definition from being deleted before the part that names it is committed.
    table = sql.Identifier(f"{noun}_definitions")
    statement = sql.SQL("SELECT 1 FROM {} WHERE id = %s FOR KEY SHARE").format(table)
    if await (await connection.execute(statement, (definition_id,))).fetchone() is None:
        message = f"There is no {noun} {definition_id}."
        raise InvalidInputError(message, [FieldError(pointer=pointer, message=message)])


async def update(connection: Connection, table: str, where: Mapping[str, UUID], changes: Mapping[str, Any]) -> None:
    """Change the row that has these keys."""

    def equals(names: Sequence[str]) -> list[sql.Composed]:
        return [sql.SQL("{} = {}").format(sql.Identifier(name), sql.Placeholder(name)) for name in names]

    statement = sql.SQL("UPDATE {} SET {} WHERE {}").format(
        sql.Identifier(table), sql.SQL(", ").join(equals([*changes])), sql.SQL(" AND ").join(equals([*where]))
    )
    await connection.execute(statement, {**changes, **where})


async def changed(connection: Connection, pipeline_id: UUID, field: str, actor: str) -> Pipeline:
    """Make a change of a part a new version of its pipeline, with its audit entry; the pipeline as it is then."""
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

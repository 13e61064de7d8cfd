"""Reading pipelines with their triggers and steps."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from latchflow.errors import NotFoundError
from latchflow.store.database import Connection
from latchflow.store.pages import Page, page_of


@dataclass(frozen=True, kw_only=True)
class PipelineTrigger:
    """A trigger definition that fires a pipeline."""

    trigger_id: UUID
    sort_order: int
    is_enabled: bool


@dataclass(frozen=True, kw_only=True)
class Step:
    """One position in a pipeline.

    Attributes:
        action_id: Of the kind ``action``.
        retry_policy: The fields of `latchflow.model.RetryPolicy`; None leaves it to the action.
        timeout_seconds: Of one attempt; None leaves it to the action.
        for_each: CEL that gives a list; the step is executed once for each item.
        max_parallel: How many items at once.
        wait: Of a delay ``{for}`` or ``{until}``, of an approval ``{approvers, timeout, onTimeout}``.
    """

    id: UUID
    name: str
    kind: str
    action_id: UUID | None
    sort_order: int
    is_enabled: bool
    when: str | None
    input: dict[str, Any] | None
    on_failure: str
    retry_policy: dict[str, Any] | None
    timeout_seconds: int | None
    for_each: str | None
    max_parallel: int | None
    wait: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """A pipeline; its parts in their order.

    Attributes:
        on_failure_steps: What runs when a run of it has failed.
    """

    id: UUID
    name: str
    description: str
    is_enabled: bool
    triggers: Sequence[PipelineTrigger]
    steps: Sequence[Step]
    on_failure_steps: Sequence[Step]
    version: int
    created_at: datetime
    updated_at: datetime


async def list_pipelines(connection: Connection, *, limit: int, after: tuple[datetime, UUID] | None) -> Page[Pipeline]:
    """Pipelines in the order they were created, from behind the key `after`."""
    at, last_id = after or (None, None)
    cursor = await connection.execute(
        """
        SELECT * FROM pipelines
        WHERE %(at)s::timestamptz IS NULL OR (created_at, id) > (%(at)s, %(id)s)
        ORDER BY created_at, id LIMIT %(limit)s
        """,
        {"at": at, "id": last_id, "limit": limit + 1},
    )
    page = page_of(await cursor.fetchall(), limit, lambda row: (row["created_at"], row["id"]))
    return Page(items=await _with_parts(connection, page.items), next_key=page.next_key)


async def get_pipeline(connection: Connection, pipeline_id: UUID, *, lock: bool = False) -> Pipeline:
    """One pipeline.

    Args:
        connection: Inside a transaction when `lock` is set.
        pipeline_id: Which one.
        lock: Keep others from changing it or its parts until the transaction ends.

    Raises:
        NotFoundError: There is none with this id.
    """
    cursor = await connection.execute(
        "SELECT * FROM pipelines WHERE id = %s" + (" FOR UPDATE" if lock else ""), (pipeline_id,)
    )
    row = await cursor.fetchone()
    if row is None:
        raise NotFoundError(f"There is no pipeline {pipeline_id}.")
    (pipeline,) = await _with_parts(connection, [row])
    return pipeline


async def _with_parts(connection: Connection, rows: Sequence[dict[str, Any]]) -> list[Pipeline]:
    ids = [row["id"] for row in rows]
    triggers: dict[UUID, list[PipelineTrigger]] = {pipeline_id: [] for pipeline_id in ids}
    steps: dict[tuple[UUID, bool], list[Step]] = {(key, of_failure): [] for key in ids for of_failure in (False, True)}
    cursor = await connection.execute(
        "SELECT * FROM pipeline_triggers WHERE pipeline_id = ANY(%s) ORDER BY sort_order, trigger_id", (ids,)
    )
    for row in await cursor.fetchall():
        triggers[row.pop("pipeline_id")].append(PipelineTrigger(**row))
    cursor = await connection.execute(
        "SELECT * FROM pipeline_steps WHERE pipeline_id = ANY(%s) ORDER BY sort_order, id", (ids,)
    )
    for row in await cursor.fetchall():
        where = row.pop("pipeline_id"), row.pop("is_failure_step")
        when, for_each = row.pop("when_expression"), row.pop("for_each_expression")
        steps[where].append(Step(**row, when=when, for_each=for_each))
    return [
        Pipeline(
            **row,
            triggers=triggers[row["id"]],
            steps=steps[row["id"], False],
            on_failure_steps=steps[row["id"], True],
        )
        for row in rows
    ]

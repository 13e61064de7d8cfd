"""What a re-run reads of the event that it repeats, and the rows it keeps of it."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from latchflow import plan
from latchflow.crypto import Keyring
from latchflow.model import EventStatus, InvocationStatus, Manifest
from latchflow.repeats import StepSource
from latchflow.store import places
from latchflow.store.database import Connection
from latchflow.store.events import MANIFEST

_AT_ONCE = 50
"""Outputs in memory at once: each may have a megabyte."""


@dataclass(frozen=True, kw_only=True)
class PastEvent:
    """An event that is to be repeated.

    Attributes:
        sources: The expressions of its steps, by invocation.
        succeeded: The invocations of its steps that succeeded.
    """

    manifest: Manifest
    status: EventStatus
    is_closed: bool
    scheduled_for: datetime | None
    metadata: Mapping[str, Any]
    context_sealed: bytes
    sources: Mapping[UUID, StepSource]
    succeeded: frozenset[UUID]


async def past_event(connection: Connection, event_id: UUID) -> PastEvent | None:
    """An event with the endings of its steps; None when there is none. A closed one never changes again."""
    row = await (
        await connection.execute(
            "SELECT manifest, status, closed_at, scheduled_for, metadata, context_sealed FROM events WHERE id = %s",
            (event_id,),
        )
    ).fetchone()
    if row is None:
        return None
    steps = await (
        await connection.execute(
            """
            SELECT id, status, when_expression AS "when", input_template AS input, for_each_expression AS for_each, wait
            FROM invocations WHERE event_id = %s AND item_index IS NULL
            """,
            (event_id,),
        )
    ).fetchall()
    return PastEvent(
        manifest=MANIFEST.validate_python(row["manifest"]),
        status=EventStatus(row["status"]),
        is_closed=row["closed_at"] is not None,
        scheduled_for=row["scheduled_for"],
        metadata=row["metadata"],
        context_sealed=row["context_sealed"],
        sources={
            step["id"]: StepSource(when=step["when"], input=step["input"], for_each=step["for_each"], wait=step["wait"])
            for step in steps
        },
        succeeded=frozenset(step["id"] for step in steps if step["status"] == InvocationStatus.SUCCEEDED),
    )


async def keep_outputs(connection: Connection, keyring: Keyring, kept: Mapping[UUID, UUID]) -> None:
    """End the kept invocations of a new event with the outputs that they had, and those of their items.

    They name the action and the version that have put them out: what is masked in an output depends on these.

    Args:
        connection: Inside the transaction that has opened the event.
        keyring: Opens what was sealed for the old invocations, and seals it for the new ones.
        kept: By new invocation, the old one.
    """
    pairs = list(kept.items())
    for first in range(0, len(pairs), _AT_ONCE):
        await _keep_some(connection, keyring, {old: new for new, old in pairs[first : first + _AT_ONCE]})
    for new, old in pairs:
        await _keep_items(connection, keyring, old, new)


async def _keep_some(connection: Connection, keyring: Keyring, new_of: Mapping[UUID, UUID]) -> None:
    rows = await (
        await connection.execute("SELECT id, output_sealed FROM invocations WHERE id = ANY(%s)", (list(new_of),))
    ).fetchall()
    outputs = await asyncio.to_thread(
        lambda: [_resealed(keyring, row["output_sealed"], places.invocation_output, row["id"], new_of) for row in rows]
    )
    await connection.execute(
        """
        UPDATE invocations
        SET status = 'SUCCEEDED', ended_at = now(), item_count = old.item_count, output_sealed = kept.output,
            kind = old.kind, action_id = old.action_id, action_version = old.action_version, plugin = old.plugin,
            capability_key = old.capability_key
        FROM unnest(%s::uuid[], %s::uuid[], %b::bytea[]) AS kept (id, old_id, output)
        JOIN invocations old ON old.id = kept.old_id
        WHERE invocations.id = kept.id
        """,
        ([new_of[row["id"]] for row in rows], [row["id"] for row in rows], outputs),
    )


async def _keep_items(connection: Connection, keyring: Keyring, old: UUID, new: UUID) -> None:
    """Copy the items of a ``forEach``; nothing happens for another step."""
    after = -1
    while rows := await _some_items(connection, old, after):
        new_of = {row["id"]: plan.item_invocation_id(new, row["item_index"]) for row in rows}
        items, outputs = await asyncio.to_thread(_resealed_items, keyring, rows, new_of)
        await connection.execute(
            """
            INSERT INTO invocations (id, event_id, run_id, step_id, step_name, ordinal, item_index, kind, action_id,
                                     action_version, plugin, capability_key, input_template, wait, status, ended_at,
                                     skipped_reason, item_sealed, output_sealed)
            SELECT item.id, i.event_id, i.run_id, i.step_id, i.step_name, i.ordinal, item.index, i.kind, i.action_id,
                   i.action_version, i.plugin, i.capability_key, i.input_template, i.wait, item.status, now(),
                   item.reason, item.sealed, item.output
            FROM invocations i,
                 unnest(%s::uuid[], %s::integer[], %s::text[], %s::text[], %b::bytea[], %b::bytea[])
                   AS item (id, index, status, reason, sealed, output)
            WHERE i.id = %s
            """,
            (
                [new_of[row["id"]] for row in rows],
                [row["item_index"] for row in rows],
                [row["status"] for row in rows],
                [row["skipped_reason"] for row in rows],
                items,
                outputs,
                new,
            ),
        )
        after = rows[-1]["item_index"]


async def _some_items(connection: Connection, invocation_id: UUID, after: int) -> list[dict[str, Any]]:
    cursor = await connection.execute(
        """
        SELECT item.id, item.item_index, item.status, item.skipped_reason, item.item_sealed, item.output_sealed
        FROM invocations step JOIN invocations item ON item.event_id = step.event_id AND item.run_id = step.run_id
                                                   AND item.step_id = step.step_id
        WHERE step.id = %s AND item.item_index > %s ORDER BY item.item_index LIMIT %s
        """,
        (invocation_id, after, _AT_ONCE),
    )
    return await cursor.fetchall()


def _resealed_items(
    keyring: Keyring, rows: Sequence[Mapping[str, Any]], new_of: Mapping[UUID, UUID]
) -> tuple[list[bytes | None], list[bytes | None]]:
    items = [_resealed(keyring, row["item_sealed"], places.invocation_item, row["id"], new_of) for row in rows]
    outputs = [_resealed(keyring, row["output_sealed"], places.invocation_output, row["id"], new_of) for row in rows]
    return items, outputs


def _resealed(
    keyring: Keyring, sealed: bytes | None, place: Any, old: UUID, new_of: Mapping[UUID, UUID]
) -> bytes | None:
    """A seal binds its value to one row: a copy is opened there and sealed for here."""
    return None if sealed is None else keyring.seal(keyring.open(sealed, place(old)), place(new_of[old]))

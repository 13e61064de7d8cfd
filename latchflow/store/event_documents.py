"""Reading events as people see them: the event, its runs, their invocations and attempts."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from latchflow.crypto import Keyring
from latchflow.errors import NotFoundError
from latchflow.model import EventStatus
from latchflow.names import TEST_RUN_ID
from latchflow.store import events, places
from latchflow.store.capacity import short_of_workers
from latchflow.store.database import Connection
from latchflow.store.known_secrets import masker_of_events
from latchflow.store.pages import Page, page_of
from latchflow.store.visibility import Limits, visible, visible_run, visible_to

Key = tuple[datetime, UUID]
"""The sort key of lists by time, newest first."""

_EVENT_FIELDS = f"""
    id, nullif(trigger_id, '{TEST_RUN_ID}') AS trigger_id, trigger_name, status, scheduled_for, metadata, invoker,
    fired_at, closed_at, closed_by, closed_reason, deliveries, workflow_id, rerun_of, is_stuck AS stuck,
    CASE WHEN gate_verdict IS NOT NULL THEN jsonb_build_object(
        'verdict', gate_verdict, 'reason', gate_reason, 'at', fired_at, 'released_at', released_at) END AS gate
"""
_INVOCATION_FIELDS = """
    i.id, i.event_id, i.run_id, i.step_name, i.item_index AS index, i.kind, i.action_id, i.plugin, i.capability_key,
    i.status, i.skipped_reason, i.error, i.next_attempt_at, i.is_partial,
    CASE WHEN i.status = 'PENDING' AND e.is_waiting THEN 'turn' ELSE i.waiting_for END AS waiting_for,
    CASE WHEN i.kind = 'approval' THEN i.wait -> 'approvers' END AS approvers, i.decision,
    octet_length(i.output_sealed) AS output_size,
    CASE WHEN octet_length(i.output_sealed) <= %(largest)s THEN i.output_sealed END AS output_sealed
"""

LARGEST_OUTPUT = 256 * 1024
"""Bytes of an output that an event's document still carries; of a larger one it says the size."""

LARGEST_LISTED_OUTPUT = 16 * 1024
"""The same for lists of executions."""


async def list_events(
    connection: Connection,
    *,
    trigger_id: UUID | None,
    status: str | None,
    limit: int,
    after: Key | None,
    limits: Limits | None,
) -> Page[dict[str, Any]]:
    """Events without contexts and runs, newest first, from behind the key `after`."""
    at, last_id = after or (None, None)
    cursor = await connection.execute(
        f"""
        SELECT {_EVENT_FIELDS} FROM events
        WHERE (%(trigger_id)s::uuid IS NULL OR trigger_id = %(trigger_id)s)
          AND (%(status)s::text IS NULL OR status = %(status)s)
          AND (%(at)s::timestamptz IS NULL OR (fired_at, id) < (%(at)s, %(id)s))
          AND {visible("events")}
        ORDER BY fired_at DESC, id DESC LIMIT %(limit)s
        """,
        {
            "trigger_id": trigger_id,
            "status": status,
            "at": at,
            "id": last_id,
            "limit": limit + 1,
            **visible_to(limits),
        },
    )
    return page_of(await cursor.fetchall(), limit, lambda row: (row["fired_at"], row["id"]))


async def get_event(
    connection: Connection, keyring: Keyring, event_id: UUID, *, limits: Limits | None
) -> dict[str, Any]:
    """One event with its context opened and the runs that the caller may see.

    The secrets of its actions are masked in what they left.

    Raises:
        NotFoundError: There is none with this id that the caller may see.
        SealError: A key of its values is not in the ring.
    """
    cursor = await connection.execute(
        f"SELECT {_EVENT_FIELDS}, context_sealed, manifest FROM events WHERE id = %(id)s AND {visible('events')}",
        {"id": event_id, **visible_to(limits)},
    )
    event = await cursor.fetchone()
    if event is None:
        raise NotFoundError(f"There is no event {event_id}.")
    manifest = event.pop("manifest")
    event["context"] = keyring.open_json(event.pop("context_sealed"), places.event_context(event_id))
    cursor = await connection.execute(
        f"""
        SELECT r.id, r.pipeline_id, r.pipeline_name, r.status FROM runs r JOIN events e ON e.id = r.event_id
        WHERE r.event_id = %(id)s AND {visible_run("r", "e")} ORDER BY r.ordinal, r.id
        """,
        {"id": event_id, **visible_to(limits)},
    )
    event["runs"] = await cursor.fetchall()
    cursor = await connection.execute(
        f"""
        SELECT {_INVOCATION_FIELDS} FROM invocations i JOIN events e ON e.id = i.event_id
        WHERE i.run_id = ANY(%(runs)s) ORDER BY i.ordinal, i.item_index, i.id
        """,
        {"runs": [run["id"] for run in event["runs"]], "largest": LARGEST_OUTPUT},
    )
    of_run = defaultdict(list)
    for invocation in await _completed(connection, keyring, await cursor.fetchall()):
        of_run[invocation["run_id"]].append(invocation)
    for run in event["runs"]:
        run["invocations"] = of_run[run["id"]]
    if event["status"] == EventStatus.RUNNING:
        _show_lack_of_workers(event_id, manifest, of_run)
    return event


def _show_lack_of_workers(event_id: UUID, manifest: Any, of_run: Mapping[UUID, list[dict[str, Any]]]) -> None:
    """Say of what waits for nothing but a worker that it does."""
    planned = events.readable_manifest({"id": event_id, "manifest": manifest})
    for run in planned.runs if planned else ():
        if run.run_id in of_run:
            short = short_of_workers(run, of_run[run.run_id])
            for invocation in of_run[run.run_id]:
                if invocation["id"] in short:
                    invocation["waiting_for"] = "capacity"


async def list_executions(
    connection: Connection,
    keyring: Keyring,
    action_id: UUID,
    *,
    limit: int,
    after: Key | None,
    limits: Limits | None,
) -> Page[dict[str, Any]]:
    """The invocations of an action with their attempts, newest event first, from behind the key `after`."""
    at, last_id = after or (None, None)
    cursor = await connection.execute(
        f"""
        SELECT {_INVOCATION_FIELDS}, e.fired_at FROM invocations i JOIN events e ON e.id = i.event_id
          JOIN runs r ON r.id = i.run_id
        WHERE i.action_id = %(action_id)s AND (%(at)s::timestamptz IS NULL OR (e.fired_at, i.id) < (%(at)s, %(id)s))
          AND {visible_run("r", "e")}
        ORDER BY e.fired_at DESC, i.id DESC LIMIT %(limit)s
        """,
        {
            "action_id": action_id,
            "at": at,
            "id": last_id,
            "limit": limit + 1,
            "largest": LARGEST_LISTED_OUTPUT,
            **visible_to(limits),
        },
    )
    page = page_of(await cursor.fetchall(), limit, lambda row: (row["fired_at"], row["id"]))
    return Page(items=await _completed(connection, keyring, page.items), next_key=page.next_key)


async def _completed(
    connection: Connection, keyring: Keyring, invocations: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    attempts = await _attempts(connection, [invocation["id"] for invocation in invocations])
    masker = await masker_of_events(connection, keyring, list({invocation["event_id"] for invocation in invocations}))
    return [
        {
            **invocation,
            "capability": _capability(invocation),
            "output": masker.value(_output(invocation, keyring)),
            "error": masker.value(invocation["error"]),
            "attempts": [
                {**attempt, "progress": masker.value(attempt["progress"]), "error": masker.value(attempt["error"])}
                for attempt in attempts[invocation["id"]]
            ],
        }
        for invocation in invocations
    ]


def _capability(invocation: Mapping[str, Any]) -> dict[str, str] | None:
    if not invocation["plugin"]:
        return None
    return {"plugin": invocation["plugin"], "key": invocation["capability_key"]}


def _output(invocation: Mapping[str, Any], keyring: Keyring) -> Any:
    place = places.invocation_output(invocation["id"])
    if invocation["output_sealed"] is not None:
        return keyring.open_json(invocation["output_sealed"], place)
    return {"ref": place, "size": invocation["output_size"]} if invocation["output_size"] is not None else None


async def _attempts(connection: Connection, invocation_ids: Sequence[UUID]) -> Mapping[UUID, list[dict[str, Any]]]:
    cursor = await connection.execute(
        """
        SELECT invocation_id, number, phase, is_lost AS lost, started_at, ended_at, worker, plugin_version, code_hash,
               progress, error
        FROM attempts WHERE invocation_id = ANY(%s) ORDER BY invocation_id, number
        """,
        (list(invocation_ids),),
    )
    found = defaultdict(list)
    for attempt in await cursor.fetchall():
        found[attempt.pop("invocation_id")].append(attempt)
    return found

"""Decisions about approvals: a row first, under the lock of its invocation; the first one holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

from psycopg.types.json import Jsonb

from latchflow.errors import ConflictError, NotAllowedError, NotFoundError
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.database import Connection
from latchflow.store.visibility import Limits, visible_run, visible_to


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What somebody decides.

    Attributes:
        by: The name of their token, or the address of the user whose token it is.
    """

    decision: Literal["approve", "reject"]
    comment: str | None
    by: str


async def decide(connection: Connection, invocation_id: UUID, verdict: Verdict, *, limits: Limits | None) -> None:
    """Decide, once; the connection is inside a transaction.

    Raises:
        NotFoundError: There is no such invocation that the caller may see.
        ConflictError: It is no approval, does not wait, or was decided; or its time is up.
        NotAllowedError: Others are asked.
    """
    row = await (
        await connection.execute(
            f"""
            SELECT i.kind, i.status, i.step_name, i.wait, i.decision, i.event_id, e.trigger_id, i.pending_deadline,
                   i.pending_deadline <= clock_timestamp() AS is_late
            FROM invocations i JOIN events e ON e.id = i.event_id JOIN runs r ON r.id = i.run_id
            WHERE i.id = %(id)s AND {visible_run("r", "e")}
            FOR UPDATE OF i
            """,
            {"id": invocation_id, **visible_to(limits)},
        )
    ).fetchone()
    if row is None:
        raise NotFoundError(f"There is no invocation {invocation_id}.")
    _check(row, verdict)
    decision = {"decision": verdict.decision, "comment": verdict.comment, "by": verdict.by}
    await keep(connection, invocation_id, {**decision, "at": datetime.now(UTC).isoformat()})
    change = Change(object="approval", id=invocation_id, name=row["step_name"], operation=verdict.decision)
    await record_change(
        connection,
        change,
        actor=verdict.by,
        trigger_definition_id=row["trigger_id"],
        trigger_event_id=row["event_id"],
        invocation_id=invocation_id,
    )


async def keep(connection: Connection, invocation_id: UUID, decision: Mapping[str, Any]) -> None:
    """Write a decision down, ``{decision, comment, by, at}``; whoever does that has locked the invocation."""
    await connection.execute(
        "UPDATE invocations SET decision = %s WHERE id = %s", (Jsonb(dict(decision)), invocation_id)
    )


def _check(row: Mapping[str, Any], verdict: Verdict) -> None:
    if row["kind"] != "approval":
        raise ConflictError(f"The step {row['step_name']!r} is no approval, but of the kind {row['kind']}.")
    approvers = (row["wait"] or {}).get("approvers") or []
    if approvers and _name(verdict.by) not in map(_name, approvers):
        message = f"Only its approvers may decide: {', '.join(approvers)}. This call came from {verdict.by!r}."
        raise NotAllowedError(message)
    if (decision := row["decision"]) is not None:
        who = repr(decision["by"]) if decision["by"] else "its timeout, because nobody had,"
        raise ConflictError(f"This was decided already: {who} decided {decision['decision']} at {decision['at']}.")
    if row["status"] != "WAITING":
        raise ConflictError(f"This approval does not wait for a decision: its status is {row['status']}.")
    if row["is_late"]:
        raise ConflictError(f"The time for a decision was up at {row['pending_deadline'].isoformat()}.")


def _name(name: str) -> str:
    """An address is one user, however its letters are written."""
    return name.lower() if "@" in name else name

"""The pause of everything: events are accepted and wait."""

from dataclasses import dataclass
from datetime import datetime

from latchflow.model import AuditKind
from latchflow.store.audit import AuditEntry, record
from latchflow.store.database import Connection

_FIELDS = "is_paused, pause_reason AS reason, pause_by AS by, pause_at AS at"


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Whether events wait, and the last change of that; nothing of it when there was none."""

    is_paused: bool
    reason: str | None
    by: str | None
    at: datetime | None


async def read(connection: Connection) -> Pause:
    """How it is now."""
    row = await (await connection.execute(f"SELECT {_FIELDS} FROM deployment")).fetchone()
    return Pause(**row) if row else Pause(is_paused=False, reason=None, by=None, at=None)


async def change(connection: Connection, *, is_paused: bool, reason: str | None, actor: str) -> Pause:
    """Pause everything, or let it go on, inside a transaction. What is so already stays as it is, unaudited."""
    row = await (
        await connection.execute(
            f"""
            UPDATE deployment SET is_paused = %(paused)s, pause_reason = %(reason)s, pause_by = %(by)s,
                                  pause_at = clock_timestamp()
            WHERE is_paused <> %(paused)s RETURNING {_FIELDS}
            """,
            {"paused": is_paused, "reason": reason, "by": actor},
        )
    ).fetchone()
    if row is None:
        return await read(connection)
    detail = {"object": "system", "operation": "pause" if is_paused else "resume", "reason": reason}
    await record(connection, AuditEntry(kind=AuditKind.ADMIN, actor=actor, detail=detail))
    return Pause(**row)

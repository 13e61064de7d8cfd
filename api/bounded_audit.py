"""Recording what anybody can cause, so that a flood of it cannot flood the audit, which never shrinks."""

import re
import time
from collections.abc import Callable
from dataclasses import replace

from latchflow.model import AuditKind
from latchflow.store.audit import AuditEntry, record
from latchflow.store.database import Database

_PER_MINUTE = 300
_LONGEST_PATH = 200
_TOKEN = re.compile(r"lfk_[A-Za-z0-9_-]+")


class BoundedAudit:
    """Writes at most 300 entries a minute; the next one counts those left out, as ``suppressed`` in its detail.

    Args:
        database: Where the audit is.
        clock: Tells the time in seconds, from any beginning.
    """

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._window = 0
        self._written = 0
        self._suppressed = 0

    async def record(self, entry: AuditEntry) -> None:
        """Write the entry, or count it."""
        window = int(self._clock() // 60)
        if window != self._window:
            self._window, self._written = window, 0
        if self._written >= _PER_MINUTE:
            self._suppressed += 1
            return
        self._written += 1
        if self._suppressed:
            entry = replace(entry, detail={**entry.detail, "suppressed": self._suppressed})
            self._suppressed = 0
        async with self._database.connection() as connection:
            await record(connection, entry)


def denied_call(
    *, reason: str, method: str, path: str, actor: str | None = None, scope: str | None = None
) -> AuditEntry:
    """The entry of a refused call.

    Args:
        reason: ``missing``, ``malformed``, ``unknown``, ``expired``, ``revoked``, ``disabled``, ``scope`` or
            ``approver``; of an invitation ``invitation_`` and why it opens nothing.
        method: Of the request.
        path: Of the request; cut to a length that fits, tokens in it masked.
        actor: The name of the token, when it is known.
        scope: The missing scope.
    """
    detail: dict[str, object] = {
        "outcome": "denied",
        "reason": reason,
        "method": method[:16],
        "path": _TOKEN.sub("lfk_…", path)[:_LONGEST_PATH],
    }
    if scope is not None:
        detail["scope"] = scope
    return AuditEntry(kind=AuditKind.AUTH, actor=actor, detail=detail)

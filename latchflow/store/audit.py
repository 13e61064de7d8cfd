"""Writing the audit. It only grows: the application's role cannot change or remove an entry."""

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from latchflow.model import AuditKind, Phase
from latchflow.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One fact: who did what to which thing, and how it went.

    Attributes:
        detail: Ids, field names and hashes; never the data of a payload.
    """

    kind: AuditKind
    phase: Phase | None = None
    plugin_name: str | None = None
    capability_key: str | None = None
    trigger_definition_id: UUID | None = None
    trigger_event_id: UUID | None = None
    action_definition_id: UUID | None = None
    invocation_id: UUID | None = None
    attempt: int | None = None
    actor: str | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)


calling: ContextVar[Mapping[str, str]] = ContextVar("calling", default=MappingProxyType({}))
"""Whose call of the API is being served: ``tokenId``, and ``userId`` of a token that is bound to a user.

Names of tokens are free, so every entry that is made meanwhile says this too, as ``caller`` in its detail.
"""


async def record(connection: Connection, entry: AuditEntry) -> None:
    """Add one entry, in the transaction of the fact it tells of."""
    caller = calling.get()
    detail = {**entry.detail, "caller": dict(caller)} if caller else dict(entry.detail)
    await connection.execute(
        """
        INSERT INTO audit_entries (kind, phase, plugin_name, capability_key, trigger_definition_id, trigger_event_id,
                                   action_definition_id, invocation_id, attempt, actor, detail)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
        """,
        (
            entry.kind,
            entry.phase,
            entry.plugin_name,
            entry.capability_key,
            entry.trigger_definition_id,
            entry.trigger_event_id,
            entry.action_definition_id,
            entry.invocation_id,
            entry.attempt,
            entry.actor,
            Jsonb(detail),
        ),
    )

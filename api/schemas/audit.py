"""Audit entries."""

from typing import Any
from uuid import UUID

from api.schemas.conventions import Answer, Time


class AuditEntry(Answer):
    """One fact of the record."""

    seq: int
    timestamp: Time
    kind: str
    phase: str | None
    plugin_name: str | None
    capability_key: str | None
    trigger_definition_id: UUID | None
    trigger_event_id: UUID | None
    action_definition_id: UUID | None
    invocation_id: UUID | None
    attempt: int | None
    actor: str | None
    detail: dict[str, Any]

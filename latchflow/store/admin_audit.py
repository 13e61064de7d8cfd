"""The audit entry of an admin's change."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from latchflow.model import AuditKind
from latchflow.store.audit import AuditEntry, record
from latchflow.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class Change:
    """What was done to which object.

    Attributes:
        object: ``trigger``, ``action``, ``pipeline``, ``token``.
        operation: ``create``, ``update`` or ``delete``.
        fields: Names of the changed fields; never their values.
        version: The version after the change; of a deleted object, its last.
    """

    object: str
    id: UUID
    name: str
    operation: str
    fields: Sequence[str] = ()
    version: int | None = None


async def record_change(connection: Connection, change: Change, *, actor: str, **about: Any) -> None:
    """Add the entry, in the transaction of the change.

    Args:
        connection: Inside the transaction of the change.
        change: What changed.
        actor: The name of the caller's token.
        **about: More fields of the `AuditEntry`, for example ``trigger_definition_id``.
    """
    detail: dict[str, Any] = {
        "object": change.object,
        "id": str(change.id),
        "name": change.name,
        "operation": change.operation,
        "fields": [_camel(name) for name in change.fields],
    }
    if change.version is not None:
        detail["version"] = change.version
    await record(connection, AuditEntry(kind=AuditKind.ADMIN, actor=actor, detail=detail, **about))


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)

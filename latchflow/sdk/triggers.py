"""The details objects of an inbound trigger: the request it reads and what it answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class InboundRequest:
    """An HTTP request to ``/hooks/{triggerId}``, before anything was created for it.

    Attributes:
        method: In capitals.
        path: The path below ``/hooks/{triggerId}``, beginning with ``/``; just ``/`` when there is none.
        query: Query parameters; of a repeated one, the last value.
        headers: Names in lower case; of a repeated one, the values joined with ``, ``.
        body: The raw bytes, as signed by the sender.
        received_at: When the request arrived (UTC).
        secrets: The values of the config's ``writeOnly`` properties.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    received_at: datetime
    secrets: Mapping[str, Any] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, kw_only=True)
class Emit:
    """Fire the trigger once.

    Attributes:
        context: What the event's steps read as ``event.context``; JSON-serialisable, at most 512 KiB.
        metadata: Small facts about the event, shown in lists; JSON-serialisable, never secret.
        key: Deduplicates: a second emit with this key (per trigger, for 400 days) is the same event.
        is_key_signed: True when the key comes from content that the sender signed. A reused key that is not
            signed must come with the same body, or the request is refused.
    """

    context: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    is_key_signed: bool = False


@dataclass(frozen=True, kw_only=True)
class Reject:
    """Refuse the request; nothing is created, the refusal is audited.

    Attributes:
        status: 400 malformed, 401 not authentic or too old, 405 method, 413 too large, 415 media type, 422 against
            the ``bodySchema``.
        reason: What is wrong and how to mend it. Goes to the sender: no secret, no expected signature.
    """

    status: Literal[400, 401, 405, 413, 415, 422]
    reason: str

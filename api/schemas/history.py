"""What Temporal recorded of an event."""

from typing import Any

from api.schemas.conventions import Answer, Time


class HistoryEntry(Answer):
    """One entry of Temporal's own history.

    Attributes:
        id: Temporal's number of it, from 1.
        type: Temporal's name of it, for example ``ActivityTaskScheduled``.
        attributes: What it carries, payloads decoded.
    """

    id: int
    time: Time
    type: str
    attributes: dict[str, Any]

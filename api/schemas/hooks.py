"""What a sender is answered."""

from uuid import UUID

from api.schemas.conventions import Answer


class Delivery(Answer):
    """A durable delivery.

    Attributes:
        event_id: None when the trigger read the request and fired nothing.
        duplicate: An earlier delivery opened this event.
    """

    event_id: UUID | None
    duplicate: bool

"""What plugins hand in, made sure of."""

from uuid import UUID

from latchflow.sdk import ServiceError


def id_of(value: UUID | str, what: str) -> UUID:
    """An id that may come as text.

    Raises:
        ServiceError: ``validation``.
    """
    if isinstance(value, UUID):
        return value
    try:
        return UUID(value)
    except (ValueError, TypeError, AttributeError):
        raise ServiceError("validation", f"{str(value)[:80]!r} is not the id of a {what}.") from None


def switch_of(value: object) -> bool:
    """A state to set.

    Raises:
        ServiceError: ``validation``: everything but True and False, so that "false" switches nothing on.
    """
    if not isinstance(value, bool):
        raise ServiceError("validation", "is_enabled is neither True nor False.")
    return value

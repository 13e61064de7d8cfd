"""What a service may say of the effect that it carries out."""

from datetime import UTC, datetime, timedelta
from typing import Protocol

from latchflow.sdk import ServiceError


class Handover(Protocol):
    """One effect, written down by whoever asks for it."""

    @property
    def key(self) -> str:
        """Its idempotency key: equal for all attempts."""
        ...

    async def via(self, provider: str) -> None:
        """Say which provider it is handed to now; this is on record before it happens."""
        ...


class OpenError(ServiceError):
    """The effect may have happened, whatever the kind says to whoever asked: on record it stays ``intended``."""


class UnsettledError(OpenError):
    """Nobody knows yet whether the effect has happened, and the next attempt can find out: ``retryable``."""

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__("retryable", message, retry_after=retry_after)


def require_time(deadline: datetime) -> None:
    """Check the clock just before something goes out: a process may have been frozen for any time.

    Whoever looks after `deadline` whether something was sent relies on nothing being sent any more.

    Raises:
        ServiceError: ``retryable``: it is too late.
    """
    if datetime.now(UTC) >= deadline:
        raise ServiceError("retryable", "Not sent: the time for it was up before it could be handed over.")

"""What a service may say of the effect that it carries out."""

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

    def __init__(self, message: str) -> None:
        super().__init__("retryable", message)

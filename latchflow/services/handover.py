"""What a service may say of the effect that it carries out."""

from typing import Protocol


class Handover(Protocol):
    """One effect, written down by whoever asks for it."""

    @property
    def key(self) -> str:
        """Its idempotency key: equal for all attempts."""
        ...

    async def via(self, provider: str) -> None:
        """Say which provider it is handed to now; this is on record before it happens."""
        ...

"""The egress guard of what is configured now."""

from collections.abc import Awaitable, Callable, Sequence

from latchflow.errors import LatchflowError, UnavailableError
from latchflow.sdk import ServiceError
from latchflow.services.egress import EgressGuard


class LiveEgressGuard:
    """Asks for the allow list at every use, so that a change holds for whatever begins afterwards.

    Implements `latchflow.sdk.Network`; may be used from every loop.

    Args:
        allow: Reads ``HTTP_EGRESS_ALLOW``.
    """

    def __init__(self, allow: Callable[[], Awaitable[str]]) -> None:
        self._allow = allow
        self._known = ("", EgressGuard(""))

    async def current(self) -> EgressGuard:
        """The guard of now: the same one as long as nothing changes.

        Raises:
            ServiceError: ``retryable`` while the list cannot be read, ``fatal`` when it cannot be used.
        """
        try:
            text = await self._allow()
            known_text, guard = self._known
            if text != known_text:
                guard = EgressGuard(text)
                self._known = (text, guard)
        except UnavailableError as error:
            raise ServiceError("retryable", f"HTTP_EGRESS_ALLOW cannot be read now: {error.message}") from error
        except LatchflowError as error:
            raise ServiceError("fatal", f"HTTP_EGRESS_ALLOW cannot be used: {error.message}") from error
        return guard

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """As `EgressGuard.resolve`."""
        return await (await self.current()).resolve(host, port)

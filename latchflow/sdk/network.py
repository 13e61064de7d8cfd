"""The egress guard, for clients that make connections by themselves."""

from collections.abc import Sequence
from typing import Protocol


class Network(Protocol):
    """Says where a connection may go."""

    async def resolve(self, host: str, port: int) -> Sequence[str]:
        """The addresses a connection to this host must be made to, in the order to try them.

        Raises:
            ServiceError: ``denied`` for private, loopback, link-local and metadata addresses that the deployment does
                not open, ``retryable`` when the look-up failed, ``validation`` for what cannot be a host.
        """
        ...

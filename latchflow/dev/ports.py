"""Ports on the loopback address."""

import random
import socket

from latchflow.errors import ConfigurationError

LOOPBACK = "127.0.0.1"

# Below the range from which systems take the source ports of outgoing connections, so that no connection sits on a port
# between its choice and its use, or while its program is being restarted.
_FIRST, _LAST = 15000, 32000
_TRIES = 200


class Ports:
    """The ports of one stack, all different."""

    def __init__(self) -> None:
        self._chosen: set[int] = set()

    def choose(self, given: int | None = None, option: str = "") -> int:
        """The port the operator gave, or a free one.

        Raises:
            ConfigurationError: The given port is taken; the message names it and the option.
        """
        port = self._free() if given is None else self._checked(given, option)
        self._chosen.add(port)
        return port

    def _free(self) -> int:
        for _ in range(_TRIES):
            port = random.randint(_FIRST, _LAST)  # noqa: S311 -- no secret
            if port not in self._chosen and _obstacle(port) is None:
                return port
        raise ConfigurationError(f"No free port between {_FIRST} and {_LAST} on {LOOPBACK}.")

    def _checked(self, port: int, option: str) -> int:
        obstacle = "another option of this command has it" if port in self._chosen else _obstacle(port)
        if obstacle is not None:
            raise ConfigurationError(
                f"Port {port} cannot be used ({obstacle}). Give {option} another port, or leave it out."
            )
        return port


def _obstacle(port: int) -> str | None:
    with socket.socket() as probe:
        # As the servers do: a port whose last connections are still dying down is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            return error.strerror
    return None

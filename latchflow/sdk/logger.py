"""The logger a plugin gets."""

from typing import Any, Protocol


class Logger(Protocol):
    """A structured logger; its entries carry the ids of the event and the invocation."""

    def debug(self, event: str, **fields: Any) -> Any:
        """Write an entry of level debug."""
        ...

    def info(self, event: str, **fields: Any) -> Any:
        """Write an entry of level info."""
        ...

    def warning(self, event: str, **fields: Any) -> Any:
        """Write an entry of level warning."""
        ...

    def error(self, event: str, **fields: Any) -> Any:
        """Write an entry of level error."""
        ...

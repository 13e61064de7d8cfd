"""Services that are not here yet."""

from typing import Any

from latchflow.sdk import ServiceError


class Absent:
    """Refuses every call."""

    def __getattr__(self, name: str) -> Any:
        async def refuse(*_: object, **__: object) -> Any:
            raise ServiceError("fatal", "This deployment does not offer this service.")

        return refuse

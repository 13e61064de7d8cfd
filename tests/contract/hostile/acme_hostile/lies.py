"""Objects that are not what they say, or not twice the same."""

from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID


class Equal(str):
    """A text that equals everything."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return hash("EXECUTOR")


class Turning(str):
    """A text that shows itself to be something harmless."""

    __slots__ = ()

    def __str__(self) -> str:
        return "harmless"

    def replace(self, *_: Any) -> str:
        return "harmless"

    def lower(self) -> str:
        return "x-harmless"

    def encode(self, *_: Any, **__: Any) -> bytes:
        return b"harmless"


class Twice(Mapping[str, str]):
    """A mapping that has other contents from the second look on."""

    def __init__(self, first: dict[str, str], then: dict[str, str]) -> None:
        self.contents = [first, then]
        self.looks = 0

    def _now(self) -> dict[str, str]:
        self.looks += 1
        return self.contents[min(self.looks - 1, 1)]

    def __getitem__(self, name: str) -> str:
        return self.contents[1][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return 1

    def items(self) -> Any:
        return self._now().items()


class Raising(Mapping[str, str]):
    """A mapping that raises at every look."""

    def __getitem__(self, name: str) -> str:
        raise SystemError("got you")

    def __iter__(self) -> Iterator[str]:
        raise SystemError("got you")

    def __len__(self) -> int:
        raise SystemError("got you")


class OtherId(UUID):
    """An id that names something else when it is written out."""

    def __str__(self) -> str:
        return "00000000-0000-4000-8000-000000000bad"

    @property
    def hex(self) -> str:
        return "0" * 32


class Forever(timedelta):
    """A duration that compares as short as anybody likes."""

    def __lt__(self, other: Any) -> bool:
        return True

    def __gt__(self, other: Any) -> bool:
        return False


def endless() -> Iterator[str]:
    while True:
        yield "email:send"

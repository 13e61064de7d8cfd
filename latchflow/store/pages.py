"""One page of a list, and the key behind which the next begins."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Page(Generic[T]):
    """A page.

    Attributes:
        next_key: The sort key of the last item; None when nothing follows.
    """

    items: list[T]
    next_key: Any = None


def page_of(rows: Sequence[T], limit: int, key: Callable[[T], Any]) -> Page[T]:
    """The page of rows that were read with a limit one above `limit`."""
    items = list(rows[:limit])
    return Page(items=items, next_key=key(items[-1]) if len(rows) > limit else None)

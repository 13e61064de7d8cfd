"""How deep JSON may be nested: what is let in must be readable by everything that reads it later."""

from typing import Any

MAX_DEPTH = 100
"""Of bodies, outputs, states and the values of a context. Pydantic writes about 255 levels, and what is stored is shown
inside other documents."""


def nests_deeper(value: Any, limit: int = MAX_DEPTH) -> bool:
    """Whether a JSON value, as read from text, holds something below more than `limit` lists and objects."""
    level = [value]
    for _ in range(limit + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True

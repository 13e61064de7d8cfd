"""Optimistic locking: a change says which version its author read."""

from latchflow.errors import VersionConflictError

Expected = frozenset[int] | None
"""The versions a caller may have read; None: whichever there is."""


def check_version(noun: str, version: int, expected: Expected) -> None:
    """Check, under a lock of the row, that nobody changed it since the caller read it.

    Raises:
        VersionConflictError: Somebody did.
    """
    if expected is not None and version not in expected:
        raise VersionConflictError(f"The {noun} was changed in the meantime. Read it again, then repeat the change.")

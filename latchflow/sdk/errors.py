"""What a plugin raises, and what a service raises at it."""

from datetime import timedelta
from typing import Literal

ServiceErrorKind = Literal["validation", "denied", "not_found", "rate_limited", "retryable", "fatal", "outcome_unknown"]
_RETRYABLE_KINDS: frozenset[ServiceErrorKind] = frozenset({"rate_limited", "retryable"})


class Retry(Exception):  # noqa: N818 - it asks for something, it does not report an error
    """Ask core to make another attempt.

    Args:
        after: How long to wait; None leaves it to the retry policy of the definition.
        reason: Shown to the admin beside the attempt.
    """

    def __init__(self, *, after: timedelta | None = None, reason: str) -> None:
        super().__init__(reason)
        self.after = after
        self.reason = reason


class PermanentFailure(Exception):  # noqa: N818 - the field's word for it
    """End the invocation now: another attempt would fail the same way.

    Args:
        reason: Shown to the admin.
        error_type: A short stable word that filters and alerts can match on.
    """

    def __init__(self, reason: str, *, error_type: str = "PermanentFailure") -> None:
        super().__init__(reason)
        self.reason = reason
        self.error_type = error_type


class ServiceError(Exception):
    """A core service refused or failed. Left uncaught, core turns it into a retry or a permanent failure by its kind.

    Attributes:
        kind: ``rate_limited`` and ``retryable`` become another attempt, every other kind ends the invocation.
            ``outcome_unknown`` means that the effect may or may not have happened.
        retry_after: How long the other side asked to wait, if it said so.
    """

    def __init__(self, kind: ServiceErrorKind, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.kind: ServiceErrorKind = kind
        self.retry_after = retry_after

    @property
    def is_retryable(self) -> bool:
        """Whether another attempt may do better."""
        return self.kind in _RETRYABLE_KINDS

"""The few errors a caller must tell apart. Each has a stable code, a message that says who must act, and its data."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class FieldError:
    """One fault in an input.

    Attributes:
        pointer: RFC 6901 JSON pointer into the input, for example ``/config/secret``.
        message: What is wrong and how to mend it.
    """

    pointer: str
    message: str


class LatchflowError(Exception):
    """Base of the errors that cross a boundary on purpose."""

    code = "error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class ConfigurationError(LatchflowError):
    """The operator must change the environment; programs print the message as one line and exit with status 1."""

    code = "configuration"


class UnreachableError(ConfigurationError):
    """A part named in the environment does not answer: it is away, or the address is wrong.

    Programs end with the status 69 (``EX_UNAVAILABLE`` of ``sysexits.h``), so that who starts them may try again.
    """

    code = "unreachable"


class InvalidInputError(LatchflowError):
    """The caller sent something that breaks a rule it can read up."""

    code = "invalid_input"

    def __init__(self, message: str, errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message)
        self.errors = tuple(errors)


class MalformedError(LatchflowError):
    """The bytes could not be read as what they claim to be."""

    code = "malformed"


class NotAllowedError(LatchflowError):
    """The caller is known and may do such things, but this one is for others."""

    code = "forbidden"


class NotFoundError(LatchflowError):
    """There is no such thing, or the caller may not know of it."""

    code = "not_found"


class GoneError(LatchflowError):
    """It was there, and is not any more."""

    code = "gone"


class ConflictError(LatchflowError):
    """The state of the thing forbids this now."""

    code = "conflict"


class VersionConflictError(LatchflowError):
    """The definition changed since the caller read it."""

    code = "version_conflict"


class TooLargeError(LatchflowError):
    """More bytes than allowed."""

    code = "too_large"


class UnavailableError(LatchflowError):
    """A part this needs is away; the caller may try again.

    Attributes:
        retry_after_seconds: When to try again.
    """

    code = "unavailable"

    def __init__(self, message: str, *, retry_after_seconds: int = 5) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class SealError(LatchflowError):
    """A sealed value cannot be opened: unknown key id, wrong place, or changed bytes.

    Attributes:
        key_id: The id the envelope names; None when not even that could be read.
    """

    code = "seal"

    def __init__(self, message: str, *, key_id: str | None = None) -> None:
        super().__init__(message)
        self.key_id = key_id

"""What an action's answer, or what it raised, means."""

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from latchflow.masking import Masker, printable
from latchflow.nesting import MAX_DEPTH, nests_deeper
from latchflow.runtime.guard.arguments import duration_of
from latchflow.runtime.invoking.configs import ConfigError
from latchflow.runtime.isolation.threads import UNCARRIED
from latchflow.sdk import ActionResult, Pending, PermanentFailure, Retry, ServiceError, ServiceErrorKind

MAX_OUTPUT_BYTES = 4 * 1024 * 1024
MAX_STATE_BYTES = 256 * 1024
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)
_MAX_MESSAGE = 2000
_MAX_ERROR_TYPE = 200


@dataclass(frozen=True, kw_only=True)
class Success:
    """The action returned.

    Attributes:
        output_json: The output as JSON bytes.
    """

    output: Any
    output_json: bytes


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """The action answered `latchflow.sdk.Pending`.

    Attributes:
        state: As JSON will give it back.
        deadline: When the invocation gives up (UTC).
    """

    check_after: timedelta
    state: Any
    deadline: datetime | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """The action failed, or asked for another attempt.

    Attributes:
        message: With the secrets of the config masked.
        is_timeout: Core ended the attempt, because it took too long or reported no progress.
        retry_after: The wait the action asked for.
        is_counted: Against the policy's maximum.
    """

    error_type: str
    message: str
    is_retryable: bool
    is_timeout: bool = False
    retry_after: timedelta | None = None
    is_counted: bool = True


Result = Success | Waiting | Failure


class NoResumeError(Exception):
    """An invocation waits, and its action has nothing that could go on with it."""


def result_of(answer: Any, masker: Masker, *, can_resume: bool) -> Result:
    """What an answer means."""
    if isinstance(answer, Pending):
        result: Result = _waiting(answer) if can_resume else _no_resume()
    else:
        result = _returned(answer if isinstance(answer, ActionResult) else ActionResult(output=answer))
    return shown(result, masker) if isinstance(result, Failure) else result


def failure_of(error: BaseException, masker: Masker) -> Failure:
    """What something raised means; never raises, whatever the plugin's object does when it is read."""
    try:
        return shown(_raised(error), masker)
    except Exception:
        message = "The action raised something that cannot be read: its attributes raise in their turn."
        return Failure(error_type="Unreadable", message=message, is_retryable=True)


def shown(failure: Failure, masker: Masker) -> Failure:
    """The failure as people may read it and every store can hold it."""
    return replace(
        failure,
        error_type=printable(masker.text(failure.error_type))[:_MAX_ERROR_TYPE],
        message=printable(masker.text(failure.message))[:_MAX_MESSAGE],
    )


def _returned(result: ActionResult) -> Success | Failure:
    if result.retry is not None:
        return _retry(result.retry.reason, result.retry.after)
    kept = _kept(result.output, "output", MAX_OUTPUT_BYTES)
    if isinstance(kept, Failure):
        return kept
    output, output_json = kept
    return Success(output=output, output_json=output_json)


def _waiting(pending: Pending) -> Waiting | Failure:
    deadline = pending.deadline
    if not isinstance(pending.check_after, timedelta):
        return _permanent("InvalidPending", f"check_after is {_text(pending.check_after)!r}; give a timedelta.")
    if deadline is not None and (not isinstance(deadline, datetime) or deadline.utcoffset() is None):
        return _permanent("InvalidPending", f"deadline is {_text(deadline)!r}; give a datetime with a time zone.")
    try:
        # A plain value in UTC, that every clock and the database can hold.
        deadline = None if deadline is None else datetime.fromtimestamp(datetime.timestamp(deadline), UTC)
        check_after = duration_of(pending.check_after, "check_after")
        if deadline is not None and not _EARLIEST <= deadline <= _LATEST:
            raise ValueError("it is out of reach")
    except Exception as error:  # an object of the plugin's
        return _permanent("InvalidPending", f"check_after or deadline cannot be used: {_text(error)}")
    kept = _kept(pending.state, "state", MAX_STATE_BYTES)
    if isinstance(kept, Failure):
        return kept
    return Waiting(check_after=check_after, state=kept[0], deadline=deadline)


def _kept(value: Any, what: str, most: int) -> tuple[Any, bytes] | Failure:
    """The value as JSON gives it back, and its JSON."""
    try:
        written = json.dumps(value, allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"The {what} cannot be written as JSON: {error}. Return plain data."
        return _permanent(f"{what.title()}NotSerialisable", message)
    if len(written) > most:
        message = f"The {what} has {len(written)} bytes; at most {most} are kept."
        return _permanent(f"{what.title()}TooLarge", message)
    read = json.loads(written)
    if nests_deeper(read):
        message = f"The {what} is nested deeper than {MAX_DEPTH} levels. Return flatter data."
        return _permanent(f"{what.title()}NotSerialisable", message)
    return read, written


def _raised(error: BaseException) -> Failure:
    if isinstance(error, NoResumeError):
        return _no_resume()
    if isinstance(error, UNCARRIED):
        error = RuntimeError(f"the function raised {type(error).__name__}")
    if isinstance(error, Retry):
        return _retry(error.reason, error.after)
    if isinstance(error, ConfigError):
        return _permanent("InvalidConfig", str(error))
    if isinstance(error, PermanentFailure):
        return _permanent(_text(error.error_type), _text(error.reason))
    if isinstance(error, ServiceError):
        plain = ServiceError(cast("ServiceErrorKind", _text(error.kind)), _text(error))
        return Failure(
            error_type=plain.kind,
            message=str(plain),
            is_retryable=plain.is_retryable,
            retry_after=duration_of(error.retry_after, "retry_after") if _is_duration(error.retry_after) else None,
        )
    return Failure(error_type=_text(type(error).__name__), message=_text(error), is_retryable=True)


def _no_resume() -> Failure:
    message = (
        "The action answered Pending and has no `resume`. Give its class a method resume(self, call, state), or its "
        "function one with `resume=`."
    )
    return _permanent("NoResume", message)


def _permanent(error_type: str, message: str) -> Failure:
    return Failure(error_type=error_type, message=message, is_retryable=False)


def _retry(reason: object, after: object) -> Failure:
    if after is not None and not _is_duration(after):
        message = f"A retry was asked for after {_text(after)!r}, which is no timedelta. Correct the plugin."
        return Failure(error_type="InvalidRetry", message=message, is_retryable=True)
    wait = None if after is None else duration_of(after, "after")
    return Failure(error_type="Retry", message=_text(reason), is_retryable=True, retry_after=wait)


def _is_duration(value: object) -> bool:
    return isinstance(value, timedelta)


def _text(value: object) -> str:
    try:
        return str.__str__(str(value))  # which may be a subclass that answers for itself
    except BaseException as error:  # __str__ is the plugin's code too
        return f"({type(value).__name__} without a text: its __str__ raised {type(error).__name__})"

"""What the client raises, in the words of the SDK."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import ClientError as TransportError
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,  # noqa: A004 - the library's name
    HTTPClientError,
    IncompleteReadError,
)

from latchflow.sdk import ServiceError, ServiceErrorKind

_MISSING = frozenset({"NoSuchKey", "404", "NotFound"})
_SLOW = frozenset({"SlowDown", "Throttling", "ThrottlingException", "TooManyRequests", "RequestLimitExceeded"})
# Refusals that another try of the whole may not meet. NoSuchUpload: the client repeats a request whose answer was lost,
# and the first one had completed the upload.
_PASSING = frozenset({"RequestTimeout", "NoSuchUpload", "RequestTimeTooSkewed", "OperationAborted", "InternalError"})


@contextmanager
def as_service_errors() -> Iterator[None]:
    """Raise a `ServiceError` instead of what the client raises."""
    try:
        yield
    except ClientError as error:
        raise _refused(error) from error
    except (HTTPClientError, ConnectionError, IncompleteReadError, TransportError, OSError) as error:
        raise _unreached(error) from error
    except BotoCoreError as error:
        raise ServiceError("fatal", f"S3 cannot be asked: {error}") from error


def _refused(error: ClientError) -> ServiceError:
    answer = error.response
    details = answer.get("Error", {})
    code, text = details.get("Code", "unknown"), details.get("Message", "")
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return ServiceError(_kind(code, status), f"S3 answered {status} {code}: {text[:300]}")


def _kind(code: str, status: int) -> ServiceErrorKind:
    if code in _MISSING:
        return "not_found"
    if code in _SLOW or status in (429, 503):
        return "rate_limited"
    if code in _PASSING or status >= 500 or status == 408:
        return "retryable"
    return "denied" if status in (401, 403) else "fatal"


def _unreached(error: BaseException) -> ServiceError:
    seen: BaseException | None = error
    for _ in range(10):
        if isinstance(seen, ServiceError):
            return ServiceError(seen.kind, str(seen))  # what the egress guard said, wrapped by two libraries
        if seen is None:
            break
        seen = seen.__cause__ or seen.__context__
    return ServiceError("retryable", f"S3 cannot be reached, or broke off: {error}")

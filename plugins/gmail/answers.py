"""What an answer of Gmail means for a mail."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from latchflow.sdk import HttpResponse, ServiceError, ServiceErrorKind

_LIMITS = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "quotaExceeded", "dailyLimitExceeded"})
_LONGEST_WAIT = timedelta(hours=24)
_SHOWN = 300


def refusal(response: HttpResponse) -> ServiceError:
    """The error that an answer other than 2xx is.

    | status | kind |
    |---|---|
    | 400, 413 | ``validation``; ``fatal`` when the mailbox is not ready for mail (``failedPrecondition``) |
    | 401 | ``denied`` |
    | 403 | ``rate_limited`` when a limit was reached, else ``denied`` |
    | 429 | ``rate_limited`` |
    | 5xx | ``outcome_unknown``: the mail may have been taken all the same |
    | any other | ``fatal`` |
    """
    status = response.status
    reason, message = _error_of(response)
    text = f"Gmail answered {status}: {message}"
    if status == 429 or (status == 403 and reason in _LIMITS):
        return ServiceError("rate_limited", text, retry_after=_wait(response.headers.get("retry-after", "")))
    if status >= 500:
        return ServiceError("outcome_unknown", text)
    kinds: dict[int, ServiceErrorKind] = {400: "validation", 401: "denied", 403: "denied", 413: "validation"}
    is_unready = status == 400 and reason == "failedPrecondition"
    return ServiceError("fatal" if is_unready else kinds.get(status, "fatal"), text)


def document(response: HttpResponse) -> dict[str, Any]:
    """The JSON object of an answer; empty when it is none."""
    try:
        found = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _error_of(response: HttpResponse) -> tuple[str, str]:
    error = document(response).get("error")
    if not isinstance(error, dict):
        return "", " ".join(response.content[: _SHOWN * 4].decode("utf-8", "replace").split())[
            :_SHOWN
        ] or "nothing more"
    details = error.get("errors")
    first = details[0] if isinstance(details, list) and details and isinstance(details[0], dict) else {}
    return str(first.get("reason", "")), str(error.get("message", "nothing more"))[:_SHOWN]


def _wait(value: str) -> timedelta | None:
    """What ``Retry-After`` asks for, in seconds or as a date."""
    if value.isascii() and value.isdigit():
        return min(timedelta(seconds=int(value[:9])), _LONGEST_WAIT)
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    return max(timedelta(), min((at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC), _LONGEST_WAIT))

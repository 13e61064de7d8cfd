"""Outgoing HTTP."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class HttpRequest:
    """An outgoing HTTP request.

    Attributes:
        secret_headers: Like `headers`, for credentials: never shown, and dropped when a redirect leaves the origin.
        json: A JSON body; None sends none.
        content: The body's bytes; set `json` instead for a JSON body.
        timeout: Of the whole exchange; None takes what is left of the attempt.
        max_response_bytes: A longer answer is a ``fatal`` error.
        allowed_hosts: Narrows where redirects and the request itself may go: exact hosts, or ``*.example.com`` for
            every host below a domain. None allows every public host.
        is_repeatable: The receiver recognises a repeated request, for example by an idempotency key in a header;
            a connection that failed after the request was sent is then ``retryable`` for every method.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    query: Mapping[str, str] = field(default_factory=dict)
    json: Any = None
    content: bytes | None = None
    timeout: timedelta | None = None
    max_response_bytes: int = 1024 * 1024
    allowed_hosts: Sequence[str] | None = None
    is_repeatable: bool = False


@dataclass(frozen=True, kw_only=True)
class HttpResponse:
    """The answer, read whole. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class HttpService(Protocol):
    """HTTP through the egress guard: private, loopback, link-local and metadata addresses are refused."""

    async def request(self, request: HttpRequest, *, actor_id: str | None = None) -> HttpResponse:
        """Send one request. Redirects are followed for GET and HEAD only, each hop guarded.

        Any status is an answer, not an error.

        Raises:
            ServiceError: ``denied`` for a guarded address or a host outside `allowed_hosts`, ``validation`` for a
                malformed URL or header, ``retryable`` when the connection failed before the request was sent (at any
                time for GET, HEAD and repeatable requests), ``outcome_unknown`` when it failed later, ``fatal`` for an
                oversized answer.
        """
        ...

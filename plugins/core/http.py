"""The action ``http.request``."""

import json
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import Field

from latchflow.sdk import ActionCall, HttpRequest, HttpResponse, PermanentFailure, Retry

from .config import ActionConfig, HeaderName, Headers, merged, required

_RETRIED = frozenset({408, 425, 429})
_MAX_RETRY_AFTER = timedelta(hours=24)
_EXCERPT_CHARACTERS = 300

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
Overridable = Literal["method", "url", "headers", "query", "json", "body"]


class HttpRequestConfig(ActionConfig):
    """The request to send. Needed at the call: ``method`` and ``url``."""

    # Nothing but the schema sees a definition before it runs, so it says that the two bodies exclude each other.
    model_config = ActionConfig.model_config | {"json_schema_extra": {"not": {"required": ["json", "body"]}}}

    FIXED: ClassVar[frozenset[str]] = frozenset({"allowedHosts", "expectStatus", "idempotencyHeader"})

    method: Method | None = None
    url: str | None = Field(None, pattern=r"^[Hh][Tt][Tt][Pp][Ss]?://", max_length=8192)
    headers: Headers | None = None
    secret_headers: Headers | None = Field(None, json_schema_extra={"writeOnly": True})
    query: dict[str, str | int | float | bool] | None = None
    json_body: Any = Field(None, alias="json", description="Sent as JSON; excludes body.")
    body: str | None = Field(None, description="Sent as UTF-8 text; excludes json.")
    idempotency_header: HeaderName | None = Field(
        None, description="Header that carries the invocation's idempotency key, for a receiver that deduplicates."
    )
    timeout_seconds: int | None = Field(
        None, ge=1, le=115, description="Of the whole exchange. Default: what is left of the attempt."
    )
    allowed_hosts: list[str] | None = Field(
        None, description="Hosts that the request and its redirects may go to; *.example.com for all below a domain."
    )
    expect_status: list[Annotated[int, Field(ge=100, le=599)]] | None = Field(
        None, min_length=1, description="The statuses that count as success. Default: all below 400."
    )
    max_response_bytes: int | None = Field(None, ge=1, le=16 * 1024 * 1024)
    overridable: list[Overridable] | None = Field(
        None, description="Fields that the event's context may set where the step has no input."
    )


async def http_request(call: ActionCall[HttpRequestConfig]) -> dict[str, Any]:
    """Send one request; an answer is a known outcome, whatever its status."""
    config = merged(call)
    response = await call.services.http.request(_request(call, config))
    if _is_expected(response.status, config):
        return {"status": response.status, "headers": dict(response.headers), **_body(response)}
    reason = f"The server answered {response.status}{_excerpt(response)}"
    if response.status in _RETRIED or response.status >= 500:
        raise Retry(after=_retry_after(response.headers.get("retry-after", "")), reason=reason)
    raise PermanentFailure(reason, error_type=f"HttpStatus{response.status}")


def _request(call: ActionCall[HttpRequestConfig], config: HttpRequestConfig) -> HttpRequest:
    if config.json_body is not None and config.body is not None:
        raise PermanentFailure("json and body exclude each other. Leave one of them out.", error_type="InvalidPayload")
    headers = dict(config.headers or {})
    secret_headers = call.secrets.get("secretHeaders") or {}
    if secret_headers and config.url != call.config.url and not _is_known(config.url, call.config):
        raise PermanentFailure(
            "The payload's url leads secretHeaders to a host that the action's config does not name. Set allowedHosts, "
            "or a url of the same origin, in the action's config.",
            error_type="InvalidPayload",
        )
    if config.idempotency_header is not None:
        if config.idempotency_header.lower() in {name.lower() for name in secret_headers}:
            raise PermanentFailure(
                f"secretHeaders and idempotencyHeader both set {config.idempotency_header}. Leave it out of one.",
                error_type="InvalidPayload",
            )
        headers[config.idempotency_header] = call.idempotency_key
    optional: dict[str, Any] = {}
    if config.timeout_seconds is not None:
        optional["timeout"] = timedelta(seconds=config.timeout_seconds)
    if config.max_response_bytes is not None:
        optional["max_response_bytes"] = config.max_response_bytes
    return HttpRequest(
        method=required(config.method, "method"),
        url=required(config.url, "url"),
        headers=headers,
        secret_headers=secret_headers,
        query={name: _query_text(value) for name, value in (config.query or {}).items()},
        json=config.json_body,
        content=config.body.encode() if config.body is not None else None,
        allowed_hosts=config.allowed_hosts,
        is_repeatable=config.idempotency_header is not None,
        **optional,
    )


def _is_known(url: str | None, config: HttpRequestConfig) -> bool:
    """Whether the config says itself that a request may go there; allowed hosts are the service's to check."""
    if config.allowed_hosts is not None:
        return True
    return _origin(url) == _origin(config.url) is not None


def _origin(url: str | None) -> tuple[str, str | None, int | None] | None:
    try:
        parts = urlsplit(url or "")
        return (parts.scheme.lower(), parts.hostname, parts.port) if parts.hostname else None
    except ValueError:
        return None


def _query_text(value: str | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _is_expected(status: int, config: HttpRequestConfig) -> bool:
    return status < 400 if config.expect_status is None else status in config.expect_status


def _body(response: HttpResponse) -> dict[str, Any]:
    content_type = Message()
    content_type["content-type"] = response.headers.get("content-type", "")
    if content_type.get_content_subtype() == "json" or content_type.get_content_subtype().endswith("+json"):
        try:
            return {"json": json.loads(response.content)}
        except (ValueError, RecursionError):
            pass  # It is not what it says; the text lets the admin see what it is.
    try:
        text = response.content.decode(content_type.get_content_charset("utf-8"), "replace")
    except LookupError:
        text = response.content.decode("utf-8", "replace")
    return {"text": text}


def _excerpt(response: HttpResponse) -> str:
    text = " ".join(response.content[: _EXCERPT_CHARACTERS * 4].decode("utf-8", "replace").split())
    return f": {text[:_EXCERPT_CHARACTERS]}" if text else "."


def _retry_after(value: str) -> timedelta | None:
    """What the server asked for, as seconds or as a date; None when it asked for nothing that can be read."""
    if value.isascii() and value.isdigit():
        return timedelta(seconds=min(int(value[:9]), _MAX_RETRY_AFTER.total_seconds()))
    try:
        at = parsedate_to_datetime(value)
    except ValueError:
        return None
    wait = (at if at.tzinfo else at.replace(tzinfo=UTC)) - datetime.now(UTC)
    return max(timedelta(), min(wait, _MAX_RETRY_AFTER))

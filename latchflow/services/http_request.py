"""What an outgoing HTTP request must look like, and where it may go by name. The addresses are the guard's matter."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace

import httpx2

from latchflow.sdk import HttpRequest, ServiceError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_METHOD = re.compile(r"[A-Z]+")
# The library writes these from the request itself; a second opinion would confuse servers, or name another host.
_OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer"})
_DEFAULT_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": "latchflow"}
_DEFAULT_PORTS = {"http": 80, "https": 443}


def checked(request: HttpRequest) -> HttpRequest:
    """The request with its method in capitals.

    Raises:
        ServiceError: ``validation``, saying which part is wrong.
    """
    method = request.method.upper()
    if not _METHOD.fullmatch(method) or method in ("CONNECT", "TRACE"):
        raise ServiceError("validation", f"{request.method!r} is not a method that can be used here.")
    url = _parsed(request.url)
    if url.scheme not in _DEFAULT_PORTS or not url.host:
        raise ServiceError("validation", f"The URL {request.url!r} must begin with http:// or https:// and a host.")
    if url.userinfo:
        raise ServiceError("validation", "The URL carries credentials. Send them in an Authorization header instead.")
    if request.json is not None and request.content is not None:
        raise ServiceError("validation", "A request has either json or content, not both.")
    for name, value in (*request.headers.items(), *request.secret_headers.items()):
        _check_header(name, value)
    return replace(request, method=method)


def prepared(request: HttpRequest) -> httpx2.Request:
    """The checked request as the library takes it."""
    headers = {
        **_DEFAULT_HEADERS,
        **({"content-type": "application/json"} if request.json is not None else {}),
        **_in_lower_case(request.headers),
        **_in_lower_case(request.secret_headers),
    }
    url = _parsed(request.url)
    if request.query:
        url = url.copy_merge_params(dict(request.query))
    return httpx2.Request(request.method, url, headers=headers, content=_content(request))


def refuse_host(request: HttpRequest) -> None:
    """Refuse a host that `allowed_hosts` does not name.

    Raises:
        ServiceError: ``denied``.
    """
    host = _parsed(request.url).host.rstrip(".").lower()
    allowed = request.allowed_hosts
    if allowed is not None and not any(_matches(host, pattern.lower()) for pattern in allowed):
        raise ServiceError(
            "denied", f"The host {host} is not among the allowed hosts ({', '.join(allowed) or 'none'})."
        )


def is_same_origin(first: str, second: str) -> bool:
    """Whether two URLs have scheme, host and port in common."""
    return _origin(_parsed(first)) == _origin(_parsed(second))


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host.rstrip(".").lower(), url.port or _DEFAULT_PORTS.get(url.scheme, 0)


def _matches(host: str, pattern: str) -> bool:
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern


def _parsed(url: str) -> httpx2.URL:
    try:
        return httpx2.URL(url)
    except (httpx2.InvalidURL, ValueError) as error:
        raise ServiceError("validation", f"The URL {url!r} is malformed: {error}") from error


def _check_header(name: str, value: str) -> None:
    if not _TOKEN.fullmatch(name):
        raise ServiceError("validation", f"{name!r} cannot be the name of a header.")
    if name.lower() in _OWN_HEADERS:
        raise ServiceError("validation", f"The header {name} follows from the request and cannot be set.")
    if not value.isascii() or any(character in "\r\n\0" for character in value):
        # The value stays out of the message: it may be a secret.
        raise ServiceError("validation", f"The value of the header {name} must be ASCII without CR, LF or NUL.")


def _in_lower_case(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def _content(request: HttpRequest) -> bytes | None:
    if request.json is None:
        return request.content
    try:
        return json.dumps(request.json, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise ServiceError("validation", f"The body cannot be written as JSON: {error}") from error

"""HTTP through the egress guard.

Requests go straight to a transport instead of through a client: nothing of one plugin's exchange (cookies, credentials
in an address, proxies from the environment) may reach another's.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from threading import Lock
from typing import Any, Protocol
from urllib.parse import urljoin
from weakref import WeakKeyDictionary

import httpcore2
import httpx2

from latchflow.sdk import HttpRequest, HttpResponse, ServiceError
from latchflow.services.egress import EgressGuard
from latchflow.services.handover import OpenError, require_time
from latchflow.services.http_request import checked, is_same_origin, prepared, refuse_host

MAX_REDIRECTS = 5
_CONNECT_TIMEOUT_SECONDS = 10
_CLOSE_SECONDS = 2
_PIECE_BYTES = 64 * 1024
_DEFAULT_TIMEOUT = timedelta(seconds=60)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_CREDENTIALS = frozenset({"authorization", "cookie", "proxy-authorization"})


class Egress(Protocol):
    """Says which guard is in force."""

    async def current(self) -> EgressGuard:
        """The guard of now: the same object as long as nothing changes."""
        ...


class GuardedHttp:
    """Sends requests to addresses that the guard lets through.

    One instance serves a whole process: it keeps a pool of connections per event loop, made when first needed. When
    another guard comes into force, no request that begins afterwards uses a connection that the former let through.

    Args:
        egress: Says who decides where connections may go.
        ssl_context: None verifies certificates against the trust store of the system.
    """

    def __init__(self, egress: Egress, *, ssl_context: ssl.SSLContext | None = None) -> None:
        self._egress = egress
        self._ssl_context = ssl_context or ssl.create_default_context()
        self._transports: WeakKeyDictionary[asyncio.AbstractEventLoop, _GuardedTransport] = WeakKeyDictionary()
        self._lock = Lock()

    async def request(self, request: HttpRequest, *, actor_id: str | None = None) -> HttpResponse:
        """Send one request and read its answer whole.

        Redirects are followed for GET and HEAD, at most five; every hop is guarded and checked against
        `allowed_hosts`, and credentials stay with the origin they were given for. Who the call is for makes no
        difference here; whoever audits it reads `actor_id`.

        Raises:
            ServiceError: As `latchflow.sdk.HttpService.request` says.
        """
        request = checked(request)
        async with self._transport(await self._egress.current()) as transport:
            for _ in range(MAX_REDIRECTS + 1):
                refuse_host(request)
                exchange = _Exchange(request)
                response = await exchange.run(transport)
                location = response.headers.get("location")
                if request.method not in _SAFE_METHODS or response.status not in _REDIRECTS or location is None:
                    return response
                request = _redirected(request, location)
        raise ServiceError("fatal", f"More than {MAX_REDIRECTS} redirects; the last one led to {request.url}.")

    async def aclose(self) -> None:
        """Close the connections of the running loop."""
        with self._lock:
            transport = self._transports.pop(asyncio.get_running_loop(), None)
        if transport is not None:
            await transport.aclose()

    async def close_all(self) -> None:
        """Close the connections of every loop that still runs, at the end of the process."""
        with self._lock:
            loops = list(self._transports)
        for loop in loops:
            if loop is asyncio.get_running_loop():
                await self.aclose()
            elif loop.is_running():
                closing = asyncio.run_coroutine_threadsafe(self.aclose(), loop)
                with suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.wrap_future(closing), _CLOSE_SECONDS)

    @asynccontextmanager
    async def _transport(self, guard: EgressGuard) -> AsyncIterator["_GuardedTransport"]:
        loop = asyncio.get_running_loop()
        with self._lock:  # plugins call from the loops of several threads
            transport = former = self._transports.get(loop)
            if transport is None or transport.guard is not guard:
                transport = self._transports[loop] = _GuardedTransport(guard, self._ssl_context)
        transport.users += 1
        try:
            if former is not None and former is not transport:
                await former.retire()
            yield transport
        finally:
            transport.users -= 1
            if transport.is_retired:
                await transport.retire()


class _Exchange:
    """One request and its answer; knows whether the request has left when something fails."""

    def __init__(self, request: HttpRequest) -> None:
        self._request = request
        self._is_sent = False
        self._deadline = datetime.max.replace(tzinfo=UTC)

    async def run(self, transport: httpx2.AsyncBaseTransport) -> HttpResponse:
        seconds = (self._request.timeout or _DEFAULT_TIMEOUT).total_seconds()
        timeouts = {"connect": min(seconds, _CONNECT_TIMEOUT_SECONDS), "read": seconds, "write": seconds}
        self._deadline = datetime.now(UTC) + timedelta(seconds=seconds)
        outgoing = prepared(self._request)
        outgoing.stream = _TimedBody(outgoing.content, self._deadline)
        outgoing.extensions = {"timeout": {**timeouts, "pool": seconds}, "trace": self._trace}
        try:
            async with asyncio.timeout(seconds):
                response = await transport.handle_async_request(outgoing)
                try:
                    content = await self._read(response)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise self._failed(f"no complete answer within {seconds:g} s") from None
        except httpx2.DecodingError as error:
            raise self._unreadable(f"the answer's encoding is broken: {error}") from error
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError) as error:
            raise ServiceError("validation", f"{self._where}: {error}") from error
        except httpx2.TransportError as error:
            raise self._failed(str(error) or type(error).__name__) from error
        return HttpResponse(status=response.status_code, headers=dict(response.headers), content=content)

    async def _read(self, response: httpx2.Response) -> bytes:
        limit = self._request.max_response_bytes
        content = bytearray()
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > limit:
                raise self._unreadable(f"the answer is larger than {limit} bytes.")
        return bytes(content)

    async def _trace(self, event: str, _: dict[str, Any]) -> None:
        if event.endswith(".send_request_headers.started"):
            require_time(self._deadline)
            self._is_sent = True

    def _unreadable(self, reason: str) -> ServiceError:
        """There is an answer, so the request was carried out; but nobody will know how."""
        kind = ServiceError if self._request.method in _SAFE_METHODS else OpenError
        return kind("fatal", f"{self._where}: {reason}")

    def _failed(self, reason: str) -> ServiceError:
        if not self._is_sent:
            return ServiceError("retryable", f"{self._where}: not sent: {reason}.")
        if self._request.method in _SAFE_METHODS or self._request.is_repeatable:
            return ServiceError("retryable", f"{self._where}: {reason}.")
        return ServiceError("outcome_unknown", f"{self._where}: sent, but whether it took effect is unknown: {reason}.")

    @property
    def _where(self) -> str:
        return f"{self._request.method} {self._request.url.partition('?')[0]}"


class _TimedBody(httpx2.AsyncByteStream):
    """A body that goes out piece by piece: what a process was frozen before is not sent once it wakes up too late."""

    def __init__(self, content: bytes, deadline: datetime) -> None:
        self._content = content
        self._deadline = deadline

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._content), _PIECE_BYTES):
            if datetime.now(UTC) >= self._deadline:
                raise TimeoutError
            yield self._content[start : start + _PIECE_BYTES]


def _redirected(request: HttpRequest, location: str) -> HttpRequest:
    target = checked(replace(request, url=urljoin(request.url, location), query={}))
    if is_same_origin(request.url, target.url):
        return target
    headers = {name: value for name, value in request.headers.items() if name.lower() not in _CREDENTIALS}
    return replace(target, headers=headers, secret_headers={})


class _GuardedTransport(httpx2.AsyncHTTPTransport):
    """The library's transport over a pool whose connections go through the guard; belongs to one loop.

    Attributes:
        users: Requests that are using it.
        is_retired: Another one has taken its place.
    """

    def __init__(self, guard: EgressGuard, ssl_context: ssl.SSLContext) -> None:
        super().__init__(verify=ssl_context, trust_env=False)
        self.guard = guard
        self.users = 0
        self.is_retired = False
        # The transport takes no network backend, so its pool, empty until now, is replaced.
        self._pool = httpcore2.AsyncConnectionPool(
            ssl_context=ssl_context,
            max_connections=100,
            max_keepalive_connections=20,
            keepalive_expiry=5,
            network_backend=_GuardedBackend(guard),
        )

    async def retire(self) -> None:
        """Close it once nobody uses it any more."""
        self.is_retired = True
        if self.users == 0:
            await self.aclose()


class _GuardedBackend(httpcore2.AsyncNetworkBackend):
    def __init__(self, guard: EgressGuard) -> None:
        self._guard = guard
        self._backend = httpcore2.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first checked address that answers."""
        failure: Exception = httpcore2.ConnectError(f"{host} has no address")
        for address in await self._guard.resolve(host, port):
            try:
                return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
        raise failure

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

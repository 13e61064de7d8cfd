"""The guard between a plugin and core's services: every call is checked against its scopes and audited."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from latchflow.sdk import (
    EmailMessage,
    EmailService,
    HttpRequest,
    HttpResponse,
    HttpService,
    SendResult,
    ServiceError,
)

T = TypeVar("T")


class EmailBackend(Protocol):
    """Sends a mail under an idempotency key."""

    async def send(self, message: EmailMessage, *, idempotency_key: str) -> SendResult:
        """Send one mail."""
        ...


class HttpBackend(Protocol):
    """Sends a request through the egress guard."""

    async def request(self, request: HttpRequest) -> HttpResponse:
        """Send one request."""
        ...


@dataclass(frozen=True, kw_only=True)
class Backends:
    """The services of this process."""

    email: EmailBackend
    http: HttpBackend


@dataclass(frozen=True, kw_only=True)
class ServiceCall:
    """What is audited of a service call.

    Attributes:
        outcome: ``ok``, or the kind of the error.
    """

    service: str
    requested_scopes: Sequence[str]
    granted_scopes: Sequence[str]
    outcome: str
    actor_id: str | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Grant:
    """What the guard knows of the call it watches over.

    Attributes:
        granted_scopes: What an admin granted, of what ``plugin.toml`` declares.
        capability_scopes: What the capability declares; a call needs both.
        record: Writes the audit entry; runs on `host_loop`.
        host_loop: The loop the database pool belongs to; plugin code runs on another.
    """

    granted_scopes: frozenset[str]
    capability_scopes: frozenset[str]
    idempotency_key: str
    record: Callable[[ServiceCall], Coroutine[Any, Any, None]]
    host_loop: asyncio.AbstractEventLoop

    async def watch(
        self,
        service: str,
        requested_scopes: Sequence[str],
        actor_id: str | None,
        detail: Mapping[str, Any],
        work: Callable[[], Awaitable[T]],
    ) -> T:
        """Check, carry out and audit one service call.

        Raises:
            ServiceError: ``denied`` for a scope that was not declared or not granted, or whatever the service raised.
        """
        granted = sorted(self.granted_scopes & self.capability_scopes)
        outcome = "fatal"
        try:
            missing = [scope for scope in requested_scopes if scope not in granted]
            if missing:
                message = (
                    f"The scope {missing[0]!r} is not granted. The capability and plugin.toml must declare it, "
                    "and an admin must grant it to the plugin."
                )
                raise ServiceError("denied", message)
            result = await work()
            outcome = "ok"
            return result
        except ServiceError as error:
            outcome = error.kind
            raise
        finally:
            call = ServiceCall(
                service=service,
                requested_scopes=tuple(requested_scopes),
                granted_scopes=granted,
                outcome=outcome,
                actor_id=actor_id,
                detail=detail,
            )
            # Shielded: a time limit that strikes now must not leave what was done without its entry.
            await asyncio.shield(
                asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self.record(call), self.host_loop))
            )


class GuardedServices:
    """The services one call may use; implements `latchflow.sdk.Services`."""

    def __init__(self, backends: Backends, grant: Grant) -> None:
        self.email: EmailService = _GuardedEmail(backends.email, grant)
        self.http: HttpService = _GuardedHttp(backends.http, grant)


class _GuardedEmail:
    def __init__(self, backend: EmailBackend, grant: Grant) -> None:
        self._backend = backend
        self._grant = grant
        self._ordinals = itertools.count(1)

    async def send(
        self,
        message: EmailMessage,
        *,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("email:send",),
    ) -> SendResult:
        # Every attempt sends its mails in the same order, so each has a key of its own that stays the same.
        key = f"{self._grant.idempotency_key}/{next(self._ordinals)}"

        async def work() -> SendResult:
            return await self._backend.send(message, idempotency_key=key)

        recipients = len(message.to) + len(message.cc) + len(message.bcc)
        scopes = ("email:send", *(scope for scope in requested_scopes if scope != "email:send"))
        return await self._grant.watch("email.send", scopes, actor_id, {"recipients": recipients}, work)


class _GuardedHttp:
    def __init__(self, backend: HttpBackend, grant: Grant) -> None:
        self._backend = backend
        self._grant = grant

    async def request(self, request: HttpRequest, *, actor_id: str | None = None) -> HttpResponse:
        async def work() -> HttpResponse:
            return await self._backend.request(request)

        return await self._grant.watch("http.request", (), actor_id, {"method": request.method.upper()}, work)

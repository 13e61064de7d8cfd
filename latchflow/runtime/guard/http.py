"""HTTP behind the guard."""

import hashlib
import json
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ConfigDict

from latchflow.runtime.guard.arguments import actor_of, request_of
from latchflow.runtime.guard.backends import HttpBackend
from latchflow.runtime.guard.callback_addresses import without_addresses
from latchflow.runtime.guard.grant import Asked, Effect, Grant, Handle
from latchflow.sdk import HttpRequest, HttpResponse
from latchflow.services.handover import require_time

_WITHOUT_EFFECT = frozenset({"GET", "HEAD"})
_LEAST = timedelta(milliseconds=100)


class GuardedHttp:
    """`latchflow.sdk.HttpService` for one attempt."""

    def __init__(self, backend: HttpBackend, grant: Grant) -> None:
        self._backend = backend
        self._grant = grant

    async def request(self, request: HttpRequest, *, actor_id: str | None = None) -> HttpResponse:
        """Send one request; one with an effect is answered once for all attempts, unless the answer is an error."""
        request = request_of(request)
        method = request.method.upper()
        asked = Asked(service="http.request", scopes=(), actor_id=actor_of(actor_id), detail={"method": method[:20]})

        async def work(_: Handle | None = None) -> HttpResponse:
            return await self._backend.request(replace(request, timeout=self._timeout(request)))

        if method in _WITHOUT_EFFECT:
            return await self._grant.watch(asked, work)
        effect = Effect(
            target=f"{method} {request.url}",
            content=_content(request),
            identity=repr(request),
            result=_KeptResponse(),
            is_repeatable=request.is_repeatable,
            is_failure=lambda response: response.status >= 400,
        )
        return await self._grant.effect(asked, effect, work)

    def _timeout(self, request: HttpRequest) -> timedelta:
        cutoff = self._grant.cutoff
        require_time(cutoff)
        left = max(cutoff - datetime.now(UTC), _LEAST)
        return left if request.timeout is None else min(request.timeout, left)


def _content(request: HttpRequest) -> str:
    """What a request says: without secrets, which are of now, and without headers but those that describe the body.

    Others tell of the exchange: traces, times, signatures and credentials, which are new for each attempt.
    """
    about = sorted((name.lower(), value) for name, value in request.headers.items())
    body = None
    if request.content is not None:
        body = hashlib.sha256(without_addresses(request.content)).hexdigest()
    said = {
        "query": sorted(request.query.items()),
        "headers": [pair for pair in about if pair[0].startswith("content-")],
        "json": request.json,
        "content": body,
    }
    return json.dumps(said, sort_keys=True)


class _KeptResponse:
    """An answer as JSON; its content in base64."""

    def dump_json(self, instance: HttpResponse, /) -> bytes:
        return _Response(**asdict(instance)).model_dump_json().encode()

    def validate_json(self, data: bytes, /) -> HttpResponse:
        return HttpResponse(**_Response.model_validate_json(data).model_dump())


class _Response(BaseModel):
    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    status: int
    headers: dict[str, str]
    content: bytes

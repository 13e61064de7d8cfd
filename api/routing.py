"""The route of the JSON endpoints: strict about everything before an endpoint sees it."""

import json
import math
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from api.auth import Requires
from api.errors import UnsupportedMediaTypeError
from latchflow.errors import FieldError, InvalidInputError, MalformedError
from latchflow.nesting import MAX_DEPTH, nests_deeper
from latchflow.schema_walk import pointer_of

PROBLEMS: dict[int | str, dict[str, Any]] = {
    "4XX": {"description": "A problem (RFC 9457)", "content": {"application/problem+json": {}}},
    "5XX": {"description": "A problem (RFC 9457)", "content": {"application/problem+json": {}}},
}


class StrictRoute(APIRoute):
    """Checks the scope, the query's names and the body's form, in this order, before FastAPI reads the request.

    FastAPI by itself would read the body before it asks who calls, and would take unknown query parameters, NaN,
    NUL and lone surrogates, which PostgreSQL cannot store.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of one request."""
        handle = super().get_route_handler()
        known = frozenset(_query_names(self.dependant))
        guards = [below.call for below in self.dependant.dependencies if isinstance(below.call, Requires)]
        takes_body = self.body_field is not None

        async def strict(request: Request) -> Response:
            for guard in guards:
                await guard.check(request)
            _check_query(request, known)
            if takes_body:
                request = _StrictRequest(request.scope, request.receive)
                await request.json()
            return await handle(request)

        return strict


class _StrictRequest(Request):
    async def json(self) -> Any:
        if not hasattr(self, "_json"):
            body = await self.body()
            self._json = read_json(body, self.headers.get("content-type", "")) if body else None
        return self._json


def admin_router(path: str, tag: str) -> APIRouter:
    """A router for JSON endpoints below a path."""
    return APIRouter(prefix=path, tags=[tag], route_class=StrictRoute, responses=PROBLEMS)


def _query_names(dependant: Dependant) -> Iterator[str]:
    for field in dependant.query_params:
        yield field.alias
    for below in dependant.dependencies:
        yield from _query_names(below)


def _check_query(request: Request, known: frozenset[str]) -> None:
    faults = [
        FieldError(pointer=pointer_of((name,)), message=f"query parameter {name!r}: {message}")
        for name, value in request.query_params.multi_items()
        for message in [_fault_of_parameter(name, value, known)]
        if message
    ]
    if faults:
        raise InvalidInputError("The query breaks the rules of this endpoint.", faults)


def _fault_of_parameter(name: str, value: str, known: frozenset[str]) -> str | None:
    if name not in known:
        return f"This endpoint knows only {', '.join(sorted(known)) or 'none'}."
    return _fault_of_text(value)


def is_json(content_type: str) -> bool:
    """Whether a content type is one of JSON."""
    media_type = content_type.partition(";")[0].strip().lower()
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))


def read_json(body: bytes, content_type: str) -> Any:
    """Read a body as every endpoint does.

    Raises:
        UnsupportedMediaTypeError: Its content type is not one of JSON.
        MalformedError: It is no JSON, or nested too deeply.
        InvalidInputError: It holds what PostgreSQL cannot store.
    """
    if not is_json(content_type):
        raise UnsupportedMediaTypeError("Send the body as Content-Type: application/json.")
    try:
        value = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MalformedError("The body is no valid JSON in UTF-8, or is nested too deeply.") from None
    if nests_deeper(value):
        raise MalformedError(f"The body is nested deeper than {MAX_DEPTH} levels. Make it flatter.")
    faults = [FieldError(pointer=pointer_of(path), message=message) for path, message in _faults_of(value, ())]
    if faults:
        raise InvalidInputError("The body holds values that cannot be stored.", faults)
    return value


def read_text(body: bytes) -> str:
    """Read a body as text in UTF-8. Raises as `read_json`."""
    try:
        text = body.decode("utf-8")
    except ValueError:
        raise MalformedError("The body is no text in UTF-8.") from None
    if fault := _fault_of_text(text):
        raise InvalidInputError(fault)
    return text


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _faults_of(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], str]]:
    if isinstance(value, str):
        if message := _fault_of_text(value):
            yield path, message
    elif isinstance(value, float):
        if not math.isfinite(value):
            yield path, "This number is too large."
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _faults_of(part, (*path, index))
    elif isinstance(value, dict):
        for name, part in value.items():
            if _fault_of_text(name):
                yield path, "A property's name holds a character that cannot be stored (NUL or a lone surrogate)."
            else:
                yield from _faults_of(part, (*path, name))


def _fault_of_text(text: str) -> str | None:
    if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
        return "The text holds a character that cannot be stored (NUL or a lone surrogate)."
    return None

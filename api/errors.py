"""Errors as RFC 9457 problems. One table says which status an error has."""

import traceback
import uuid
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, cast

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from latchflow.errors import (
    ConflictError,
    FieldError,
    GoneError,
    InvalidInputError,
    LatchflowError,
    MalformedError,
    NotAllowedError,
    NotFoundError,
    SealError,
    TooLargeError,
    UnavailableError,
    VersionConflictError,
)
from latchflow.schema_walk import pointer_of
from latchflow.sdk import ServiceError
from latchflow.services.upload import ObjectTooLargeError

log = structlog.get_logger(__name__)


class UnauthorizedError(LatchflowError):
    """The call carries no token that is good."""

    code = "unauthorized"


class ForbiddenError(LatchflowError):
    """The token lacks a scope."""

    code = "forbidden"


class PreconditionRequiredError(LatchflowError):
    """The caller must say which version it read."""

    code = "precondition_required"


class UnsupportedMediaTypeError(LatchflowError):
    """The body is not of a form that this endpoint reads."""

    code = "unsupported_media_type"


class ServiceFailedError(LatchflowError):
    """A service of ours, or a server behind it, refused or failed; its message says who must act."""

    code = "service_failed"


STATUS_OF: Mapping[type[LatchflowError], int] = {
    MalformedError: 400,
    UnauthorizedError: 401,
    ForbiddenError: 403,
    NotAllowedError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    GoneError: 410,
    VersionConflictError: 412,
    TooLargeError: 413,
    UnsupportedMediaTypeError: 415,
    InvalidInputError: 422,
    PreconditionRequiredError: 428,
    SealError: 500,
    ServiceFailedError: 502,
    UnavailableError: 503,
}


def problem(
    status: int,
    detail: str,
    *,
    code: str,
    errors: Iterable[FieldError] = (),
    instance: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """An ``application/problem+json`` response."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "code": code,
        "errors": [{"pointer": error.pointer, "detail": error.message} for error in errors],
    }
    if instance is not None:
        content["instance"] = instance
    return JSONResponse(content, status, headers=headers, media_type="application/problem+json")


def problem_of(error: LatchflowError) -> JSONResponse:
    """The response an error of ours has; one without a status of its own is unexpected."""
    status = next((STATUS_OF[kind] for kind in type(error).__mro__ if kind in STATUS_OF), None)
    if status is None:
        return unexpected(error)
    headers: dict[str, str] = {}
    if isinstance(error, UnavailableError):
        headers["Retry-After"] = str(error.retry_after_seconds)
    if isinstance(error, UnauthorizedError):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, TooLargeError):
        headers["Connection"] = "close"  # The rest of the body is not read.
    if isinstance(error, SealError):
        log.error("seal_error", key_id=error.key_id, reason=error.message)
    faults = error.errors if isinstance(error, InvalidInputError) else ()
    return problem(status, error.message, code=error.code, errors=faults, headers=headers)


def of_service(error: ServiceError) -> LatchflowError:
    """What a service raised, as an error that has a status."""
    message = str(error)
    if isinstance(error, ObjectTooLargeError):
        return TooLargeError(message)
    if error.kind == "validation":
        return InvalidInputError(message)
    if error.kind == "not_found":
        return NotFoundError(message)
    if error.is_retryable:
        return UnavailableError(message)
    return ServiceFailedError(message)


def unexpected(error: Exception) -> JSONResponse:
    """The response to an error nobody foresaw: its details go to the log only, under an id the answer names."""
    error_id = uuid.uuid4()
    # As text: a renderer of exceptions may show local variables, and with them tokens.
    log.error("unexpected_error", error_id=str(error_id), traceback="".join(traceback.format_exception(error)))
    detail = f"Something went wrong. The log of the API has the details under {error_id}."
    return problem(500, detail, code="internal", instance=f"urn:uuid:{error_id}")


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error as a problem."""
    app.add_exception_handler(LatchflowError, _latchflow_error)
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)


async def _latchflow_error(_: Request, error: Exception) -> JSONResponse:
    return problem_of(cast("LatchflowError", error))


async def _service_error(_: Request, error: Exception) -> JSONResponse:
    return problem_of(of_service(cast("ServiceError", error)))


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    found = cast("RequestValidationError", error).errors()
    if any(fault["type"] == "json_invalid" for fault in found):
        return problem_of(MalformedError("The body is no valid JSON."))
    faults = [_field_error(fault) for fault in found]
    return problem_of(InvalidInputError("The request breaks the rules of this endpoint.", faults))


def _field_error(fault: Mapping[str, Any]) -> FieldError:
    """Only the place and the rule: what was sent may be a secret."""
    place, *path = fault["loc"]
    message = str(fault["msg"]).removeprefix("Value error, ")
    if place != "body":
        message = f"{place} parameter {'.'.join(map(str, path))!r}: {message}"
    return FieldError(pointer=pointer_of(tuple(path)), message=message)


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    error = cast("HTTPException", error)
    codes = {400: "malformed", 404: "not_found", 405: "method_not_allowed"}
    details = {404: "There is nothing at this address.", 405: "This address does not take that method."}
    detail = details.get(error.status_code, str(error.detail))
    code = codes.get(error.status_code, "http_error")
    return problem(error.status_code, detail, code=code, headers=error.headers)

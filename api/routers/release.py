"""``/release/{token}``: what a release link opens. Looking changes nothing; a download is a POST."""

import json
from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from pydantic import ValidationError

from api.content import content_response
from api.context import Context, ContextDep
from api.documents import object_of
from api.errors import UnsupportedMediaTypeError, of_service, problem_of
from api.paging import Cursor, Limit, decode_cursor, encode_cursor
from api.release_page import RELEASE_HEADERS, refusal_page, release_page
from api.routing import PROBLEMS
from api.schemas.bundles import Download, Release
from latchflow.errors import FieldError, GoneError, InvalidInputError, LatchflowError, MalformedError, NotFoundError
from latchflow.sdk import ServiceError
from latchflow.store.bundle_objects import list_objects
from latchflow.store.links import LinkState, count_download, look_up_link

_HTML = "text/html"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_REFUSALS = {
    "revoked": "This link was revoked.",
    "expired": "This link has expired.",
    "used_up": "This link has been used as often as it may be.",
    "disabled": "What this link leads to is not available now.",
}


class _ReleaseRoute(APIRoute):
    """Answers errors in the form that the caller reads, with the headers that every answer about a link has."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The handler of one request."""
        handle = super().get_route_handler()

        async def careful(request: Request) -> Response:
            try:
                return await handle(request)
            except ServiceError as error:
                return _refusal(request, of_service(error))
            except LatchflowError as error:
                return _refusal(request, error)

        return careful


router = APIRouter(prefix="/release", tags=["release"], route_class=_ReleaseRoute, responses=PROBLEMS)


@router.get(
    "/{token}",
    summary="See what a link releases",
    operation_id="getRelease",
    response_model=Release,
    responses={
        200: {"content": {_HTML: {}}, "description": "A page for browsers, JSON for `Accept: application/json`"}
    },
)
async def get_release(
    context: ContextDep, token: str, request: Request, limit: Limit = 100, cursor: Cursor = None
) -> Response:
    """A page of its objects. Changes nothing, however often it is called."""
    link = await _open_link(context, token)
    listing = f"release/{link.id}"
    after = decode_cursor(listing, cursor)
    async with context.database.connection() as connection:
        page = await list_objects(connection, link.bundle_id, limit=limit, after=after[0] if after else None)
    release = Release.model_validate(
        {
            "name": link.bundle_name,
            "expires_at": link.expires_at,
            "objects": {
                "items": list(map(object_of, page.items)),
                "next_cursor": encode_cursor(listing, page.next_key),
            },
        }
    )
    if _is_for_browser(request):
        return release_page(release)
    return Response(release.model_dump_json(by_alias=True), headers=RELEASE_HEADERS, media_type=_JSON)


@router.post(
    "/{token}",
    summary="Download an object of a link",
    operation_id="download",
    response_class=Response,
    responses={200: {"description": "The content", "content": {"application/octet-stream": {}}}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": Download.model_json_schema()} for kind in (_FORM, _JSON)},
        }
    },
)
async def download(context: ContextDep, token: str, request: Request) -> Response:
    """Every call that gets content counts as one download of the link."""
    link = await _open_link(context, token)
    wanted = await _read_download(request)
    opened = await context.services.storage.open(link.bundle_id, wanted.path)
    try:
        # After the content has begun to arrive, so that a fault of the storage uses nothing up; before any is sent.
        async with context.database.connection() as connection:
            if not await count_download(connection, link.id):
                raise _gone(await look_up_link(connection, token))
    except BaseException:
        await opened.aclose()
        raise
    return await content_response(opened, headers=RELEASE_HEADERS)


async def _open_link(context: Context, token: str) -> LinkState:
    async with context.database.connection() as connection:
        link = await look_up_link(connection, token)
    if link is None:
        raise NotFoundError("There is no such link.")
    if link.refusal is not None:
        raise _gone(link)
    return link


def _gone(link: LinkState | None) -> GoneError:
    refusal = link.refusal if link is not None else None
    return GoneError(_REFUSALS[refusal or "revoked"])


async def _read_download(request: Request) -> Download:
    body = await request.body()
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if media_type == _FORM:
            fields = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=5)
            return Download.model_validate({name: values[0] for name, values in fields.items()})
        if media_type == _JSON:
            return Download.model_validate(json.loads(body.decode()))
    except ValidationError:
        raise InvalidInputError(
            "The body must name one object.",
            [FieldError(pointer="/path", message="Send the path of the object, at most 1024 characters.")],
        ) from None
    except (ValueError, RecursionError):
        raise MalformedError("The body is neither a form nor JSON.") from None
    raise UnsupportedMediaTypeError(f"Send the body as {_FORM} or {_JSON}.")


def _is_for_browser(request: Request) -> bool:
    return _HTML in request.headers.get("accept", "")


def _refusal(request: Request, error: LatchflowError) -> Response:
    answer: Response = problem_of(error)
    if _is_for_browser(request):
        page = refusal_page(answer.status_code, error.message)
        page.headers.update({name: value for name, value in answer.headers.items() if name == "retry-after"})
        return page
    answer.headers.update(RELEASE_HEADERS)
    return answer

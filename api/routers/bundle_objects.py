"""``/admin/bundles/{bundleId}/objects``: content in and out, streamed."""

from typing import Annotated, Any

from fastapi import Header, Path, Request, Response
from starlette.requests import ClientDisconnect

from api.content import content_response
from api.context import ContextDep
from api.documents import object_of
from api.routers.bundles import BundleId, Reader, Writer
from api.routing import admin_router
from api.schemas.bundles import BundleObject
from latchflow.errors import MalformedError
from latchflow.services.object_paths import check_path
from latchflow.store.bundle_objects import delete_object as delete_stored_object

router = admin_router("/admin/bundles/{bundleId}/objects", "bundles")

ObjectPath = Annotated[str, Path(alias="path", description="Segments separated by `/`; 1024 bytes at most.")]

_CONTENT: dict[str, Any] = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.put(
    "/{path:path}",
    summary="Store an object",
    operation_id="putObject",
    responses={201: {"model": BundleObject, "description": "There was none of this path."}},
    openapi_extra={"requestBody": {"required": True, **_CONTENT}},
)
async def put_object(
    context: ContextDep, caller: Writer, bundle_id: BundleId, path: ObjectPath, request: Request, response: Response
) -> BundleObject:
    """The body is the content, of any media type. One of the same path is replaced once the new one is complete."""
    content_type = request.headers.get("content-type", "application/octet-stream")
    try:
        entry, is_replaced = await context.services.storage.write(
            bundle_id, path, request.stream(), content_type=content_type, actor=caller.name
        )
    except ClientDisconnect:
        raise MalformedError("The connection ended before the content did.") from None
    response.status_code = 200 if is_replaced else 201
    return object_of(entry)


@router.get(
    "/{path:path}",
    summary="Read an object",
    operation_id="getObject",
    response_class=Response,
    responses={200: {"description": "The content", **_CONTENT}, 304: {"description": "If-None-Match names it."}},
)
async def get_object(
    context: ContextDep,
    _: Reader,
    bundle_id: BundleId,
    path: ObjectPath,
    if_none_match: Annotated[str | None, Header(description="ETags that the caller has.")] = None,
) -> Response:
    """Its content, with the `ETag` of it; always whole."""
    opened = await context.services.storage.open(bundle_id, path)
    return await content_response(opened, if_none_match=if_none_match)


@router.delete("/{path:path}", summary="Delete an object", operation_id="deleteObject", status_code=204)
async def delete_object(context: ContextDep, caller: Writer, bundle_id: BundleId, path: ObjectPath) -> None:
    """For good."""
    check_path(path)
    async with context.database.transaction() as connection:
        await delete_stored_object(connection, bundle_id, path, actor=caller.name)

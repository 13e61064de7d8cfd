"""``/admin/bundles``."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Response

from api.auth import Caller, requires
from api.context import ContextDep
from api.documents import object_of, plain
from api.etags import IfMatch, set_etag
from api.paging import Cursor, Limit, decode_cursor, decode_time_cursor, encode_cursor
from api.routing import admin_router
from api.schemas.bundles import Bundle, BundleCreate, BundlePatch, BundleWithObjects
from api.schemas.conventions import Listing
from latchflow.store import bundles
from latchflow.store.bundle_objects import list_objects

router = admin_router("/admin/bundles", "bundles")

Reader = Annotated[Caller, requires("storage:read")]
Writer = Annotated[Caller, requires("storage:write")]
BundleId = Annotated[UUID, Path(alias="bundleId")]

_LISTING = "bundles"


@router.get("", summary="List bundles", operation_id="listBundles")
async def list_bundles(context: ContextDep, _: Reader, limit: Limit = 50, cursor: Cursor = None) -> Listing[Bundle]:
    """In the order they were created, without their objects."""
    after = decode_time_cursor(_LISTING, cursor)
    async with context.database.connection() as connection:
        page = await bundles.list_bundles(connection, limit=limit, after=after)
    items = [Bundle.model_validate(bundle) for bundle in page.items]
    return Listing(items=items, next_cursor=encode_cursor(_LISTING, page.next_key))


@router.post("", summary="Create a bundle", operation_id="createBundle", status_code=201)
async def create_bundle(context: ContextDep, caller: Writer, body: BundleCreate, response: Response) -> Bundle:
    """Empty; its objects are put into it one by one."""
    async with context.database.transaction() as connection:
        bundle = await bundles.create_bundle(connection, body.model_dump(), actor=caller.name)
    set_etag(response, bundle.version)
    return Bundle.model_validate(bundle)


@router.get("/{bundleId}", summary="Read a bundle", operation_id="getBundle")
async def get_bundle(
    context: ContextDep,
    _: Reader,
    bundle_id: BundleId,
    response: Response,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> BundleWithObjects:
    """With its objects by path, page after page; `limit` and `cursor` are of the objects."""
    listing = f"bundles/{bundle_id}/objects"
    after = decode_cursor(listing, cursor)
    async with context.database.connection() as connection:
        bundle = await bundles.get_bundle(connection, bundle_id)
        page = await list_objects(connection, bundle_id, limit=limit, after=after[0] if after else None)
    set_etag(response, bundle.version)
    objects = {"items": list(map(object_of, page.items)), "next_cursor": encode_cursor(listing, page.next_key)}
    return BundleWithObjects.model_validate({**vars(bundle), "objects": objects})


@router.patch("/{bundleId}", summary="Change a bundle", operation_id="changeBundle")
async def change_bundle(
    context: ContextDep,
    caller: Writer,
    bundle_id: BundleId,
    expected: IfMatch,
    body: BundlePatch,
    response: Response,
) -> Bundle:
    """Only the fields sent change. The links of a disabled bundle answer 410."""
    async with context.database.transaction() as connection:
        bundle = await bundles.change_bundle(
            connection, bundle_id, plain(body.given()), expected=expected, actor=caller.name
        )
    set_etag(response, bundle.version)
    return Bundle.model_validate(bundle)


@router.delete("/{bundleId}", summary="Delete a bundle", operation_id="deleteBundle", status_code=204)
async def delete_bundle(context: ContextDep, caller: Writer, bundle_id: BundleId, expected: IfMatch) -> None:
    """Its objects and links go with it."""
    async with context.database.transaction() as connection:
        await bundles.delete_bundle(connection, bundle_id, expected=expected, actor=caller.name)

"""``/admin/bundles/{bundleId}/links``: who else may fetch a bundle, and how long."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import Path

from api.context import ContextDep
from api.paging import Cursor, Limit, decode_time_cursor, encode_cursor
from api.routers.bundles import BundleId, Reader, Writer
from api.routing import admin_router
from api.schemas.bundles import CreatedLink, Link, LinkCreate
from api.schemas.conventions import Listing
from latchflow.errors import ConflictError
from latchflow.store import links
from latchflow.store.bundles import get_bundle

router = admin_router("/admin/bundles/{bundleId}/links", "bundles")

LinkId = Annotated[UUID, Path(alias="linkId")]


@router.get("", summary="List the links of a bundle", operation_id="listLinks")
async def list_links(
    context: ContextDep, _: Reader, bundle_id: BundleId, limit: Limit = 50, cursor: Cursor = None
) -> Listing[Link]:
    """In the order they were made, revoked and expired ones too; never their addresses."""
    listing = f"bundles/{bundle_id}/links"
    after = decode_time_cursor(listing, cursor)
    async with context.database.connection() as connection:
        await get_bundle(connection, bundle_id)
        page = await links.list_links(connection, bundle_id, limit=limit, after=after)
    items = [Link.model_validate(row) for row in page.items]
    return Listing(items=items, next_cursor=encode_cursor(listing, page.next_key))


@router.post("", summary="Create a link", operation_id="createLink", status_code=201)
async def create_link(context: ContextDep, caller: Writer, bundle_id: BundleId, body: LinkCreate) -> CreatedLink:
    """The answer shows the address this once. Whoever has it may download, without a token, until it expires."""
    if not context.settings.public_url:
        message = "Links need LATCHFLOW_PUBLIC_URL, the address under which people reach this API. Set it, and restart."
        raise ConflictError(message)
    link = await context.services.storage.create_release_link(
        bundle_id,
        expires_in=timedelta(seconds=body.expires_in_seconds),
        max_downloads=body.max_downloads,
        actor=caller.name,
    )
    return CreatedLink.model_validate(link)


@router.delete("/{linkId}", summary="Revoke a link", operation_id="revokeLink", status_code=204)
async def revoke_link(context: ContextDep, caller: Writer, bundle_id: BundleId, link_id: LinkId) -> None:
    """For good, from the next download on."""
    async with context.database.transaction() as connection:
        await links.revoke_link(connection, bundle_id, link_id, actor=caller.name)

"""Operations on many events at once."""

from typing import Annotated
from uuid import UUID

from fastapi import Path

from api.auth import Caller, requires
from api.context import ContextDep
from api.routing import admin_router
from api.schemas.operations import BulkCreate, BulkOperation, BulkStarted
from latchflow.errors import NotFoundError
from latchflow.store import bulk

router = admin_router("/admin", "events")

Operator = Annotated[Caller, requires("events:operate")]
Reader = Annotated[Caller, requires("events:read")]


@router.post("/events/bulk", summary="Cancel or re-run many events", operation_id="startBulk", status_code=202)
async def start_bulk(context: ContextDep, caller: Operator, body: BulkCreate) -> BulkStarted:
    """Each event that matches now, at most once, at a set rate, also when processes die meanwhile."""
    begun = await context.bulk.begin(
        body.operation,
        body.filter.narrowing(),
        options=body.options(),
        limits=caller.limits,
        rate_per_second=body.rate_per_second,
        actor=caller.name,
    )
    return BulkStarted(id=begun.id)


@router.get("/bulk/{bulkId}", summary="Read a bulk operation", operation_id="getBulk")
async def get_bulk(
    context: ContextDep, caller: Reader, bulk_id: Annotated[UUID, Path(alias="bulkId")]
) -> BulkOperation:
    """How far it is. A caller that does not see every event sees only what it started itself."""
    async with context.database.connection() as connection:
        found = await bulk.get(connection, bulk_id)
    is_own = found is not None and found.caller.get("userId") == str(caller.owner_id)
    if found is None or (caller.limits is not None and not is_own):
        raise NotFoundError(f"There is no bulk operation {bulk_id}.")
    filter_ = found.filter or {"all": True}
    return BulkOperation.model_validate({**vars(found), "filter": filter_})

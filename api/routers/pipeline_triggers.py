"""``/admin/pipelines/{id}/triggers``. The ETag is the pipeline's."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Response

from api.context import ContextDep
from api.etags import IfMatch, set_etag
from api.paging import Cursor, Limit, encode_cursor, page_in_memory
from api.routers.pipelines import PipelineId, Reader, Writer
from api.routing import admin_router
from api.schemas.conventions import Listing
from api.schemas.pipelines import PipelineTrigger, PipelineTriggerCreate, PipelineTriggerPatch
from latchflow.store import pipeline_triggers
from latchflow.store.pipelines import get_pipeline

router = admin_router("/admin/pipelines/{pipelineId}/triggers", "pipelines")

TriggerId = Annotated[UUID, Path(alias="triggerId")]


@router.get("", summary="List the triggers of a pipeline", operation_id="listPipelineTriggers")
async def list_triggers(
    context: ContextDep,
    _: Reader,
    pipeline_id: PipelineId,
    response: Response,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Listing[PipelineTrigger]:
    """By `sortOrder`."""
    async with context.database.connection() as connection:
        pipeline = await get_pipeline(connection, pipeline_id)
    listing = f"pipelines/{pipeline_id}/triggers"
    page = page_in_memory(
        listing, pipeline.triggers, lambda trigger: (trigger.sort_order, str(trigger.trigger_id)), limit, cursor
    )
    set_etag(response, pipeline.version)
    items = [PipelineTrigger.model_validate(trigger) for trigger in page.items]
    return Listing(items=items, next_cursor=encode_cursor(listing, page.next_key))


@router.post("", summary="Attach a trigger to a pipeline", operation_id="addPipelineTrigger", status_code=201)
async def add_trigger(
    context: ContextDep, caller: Writer, pipeline_id: PipelineId, body: PipelineTriggerCreate, response: Response
) -> PipelineTrigger:
    """From then on its events run this pipeline."""
    async with context.database.transaction() as connection:
        pipeline = await pipeline_triggers.add_trigger(connection, pipeline_id, body.model_dump(), actor=caller.name)
    set_etag(response, pipeline.version)
    return PipelineTrigger.model_validate(pipeline_triggers.find_trigger(pipeline, body.trigger_id))


@router.get("/{triggerId}", summary="Read an attached trigger", operation_id="getPipelineTrigger")
async def get_trigger(
    context: ContextDep, _: Reader, pipeline_id: PipelineId, trigger_id: TriggerId, response: Response
) -> PipelineTrigger:
    """One attached trigger."""
    async with context.database.connection() as connection:
        pipeline = await get_pipeline(connection, pipeline_id)
    trigger = pipeline_triggers.find_trigger(pipeline, trigger_id)
    set_etag(response, pipeline.version)
    return PipelineTrigger.model_validate(trigger)


@router.patch("/{triggerId}", summary="Change an attached trigger", operation_id="changePipelineTrigger")
async def change_trigger(
    context: ContextDep,
    caller: Writer,
    pipeline_id: PipelineId,
    trigger_id: TriggerId,
    expected: IfMatch,
    body: PipelineTriggerPatch,
    response: Response,
) -> PipelineTrigger:
    """Only the fields sent change."""
    async with context.database.transaction() as connection:
        pipeline = await pipeline_triggers.change_trigger(
            connection, pipeline_id, trigger_id, body.given(), expected=expected, actor=caller.name
        )
    set_etag(response, pipeline.version)
    return PipelineTrigger.model_validate(pipeline_triggers.find_trigger(pipeline, trigger_id))


@router.delete(
    "/{triggerId}", summary="Detach a trigger from a pipeline", operation_id="removePipelineTrigger", status_code=204
)
async def remove_trigger(
    context: ContextDep,
    caller: Writer,
    pipeline_id: PipelineId,
    trigger_id: TriggerId,
    expected: IfMatch,
    response: Response,
) -> None:
    """The trigger definition stays."""
    async with context.database.transaction() as connection:
        pipeline = await pipeline_triggers.remove_trigger(
            connection, pipeline_id, trigger_id, expected=expected, actor=caller.name
        )
    set_etag(response, pipeline.version)

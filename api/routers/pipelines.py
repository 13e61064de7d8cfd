"""``/admin/pipelines``."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query, Response

from api.auth import Caller, requires
from api.context import ContextDep
from api.etags import IfMatch, set_etag
from api.paging import Cursor, Limit, decode_time_cursor, encode_cursor
from api.pipeline_documents import new_step_values, pipeline_of
from api.routing import admin_router
from api.schemas.conventions import Listing
from api.schemas.pipelines import Pipeline, PipelineCreate, PipelinePatch
from latchflow.store import pipelines
from latchflow.store.pipeline_changes import change_pipeline as change_stored_pipeline
from latchflow.store.pipeline_changes import create_pipeline as create_stored_pipeline
from latchflow.store.pipeline_changes import delete_pipeline as delete_stored_pipeline

router = admin_router("/admin/pipelines", "pipelines")

Reader = Annotated[Caller, requires("definitions:read")]
Writer = Annotated[Caller, requires("definitions:write")]
PipelineId = Annotated[UUID, Path(alias="pipelineId")]

_LISTING = "pipelines"


@router.get("", summary="List pipelines", operation_id="listPipelines")
async def list_pipelines(context: ContextDep, _: Reader, limit: Limit = 50, cursor: Cursor = None) -> Listing[Pipeline]:
    """In the order they were created, with their triggers and steps."""
    after = decode_time_cursor(_LISTING, cursor)
    async with context.database.connection() as connection:
        page = await pipelines.list_pipelines(connection, limit=limit, after=after)
    items = [pipeline_of(pipeline) for pipeline in page.items]
    return Listing(items=items, next_cursor=encode_cursor(_LISTING, page.next_key))


@router.post("", summary="Create a pipeline", operation_id="createPipeline", status_code=201)
async def create_pipeline(context: ContextDep, caller: Writer, body: PipelineCreate, response: Response) -> Pipeline:
    """With its triggers and steps at once, or without: all of it is created, or nothing."""
    async with context.database.transaction() as connection:
        pipeline = await create_stored_pipeline(
            connection,
            {"name": body.name, "description": body.description, "is_enabled": body.is_enabled},
            triggers=[trigger.model_dump() for trigger in body.triggers],
            steps=[new_step_values(step) for step in body.steps],
            on_failure_steps=[new_step_values(step) for step in body.on_failure_steps],
            actor=caller.name,
        )
    set_etag(response, pipeline.version)
    return pipeline_of(pipeline)


@router.get("/{pipelineId}", summary="Read a pipeline", operation_id="getPipeline")
async def get_pipeline(context: ContextDep, _: Reader, pipeline_id: PipelineId, response: Response) -> Pipeline:
    """With its triggers and steps."""
    async with context.database.connection() as connection:
        pipeline = await pipelines.get_pipeline(connection, pipeline_id)
    set_etag(response, pipeline.version)
    return pipeline_of(pipeline)


@router.patch("/{pipelineId}", summary="Change a pipeline", operation_id="changePipeline")
async def change_pipeline(
    context: ContextDep,
    caller: Writer,
    pipeline_id: PipelineId,
    expected: IfMatch,
    body: PipelinePatch,
    response: Response,
) -> Pipeline:
    """Only the fields sent change; `onFailureSteps` is replaced as a whole."""
    changes = body.given()
    if "on_failure_steps" in changes:
        changes["on_failure_steps"] = [new_step_values(step) for step in body.on_failure_steps]
    async with context.database.transaction() as connection:
        pipeline = await change_stored_pipeline(connection, pipeline_id, changes, expected=expected, actor=caller.name)
    set_etag(response, pipeline.version)
    return pipeline_of(pipeline)


@router.delete("/{pipelineId}", summary="Delete a pipeline", operation_id="deletePipeline", status_code=204)
async def delete_pipeline(
    context: ContextDep,
    caller: Writer,
    pipeline_id: PipelineId,
    expected: IfMatch,
    cascade: Annotated[bool, Query(description="Taken for symmetry: nothing uses a pipeline.")] = False,
) -> None:
    """Its steps and the links to its triggers go with it; trigger and action definitions stay."""
    async with context.database.transaction() as connection:
        await delete_stored_pipeline(connection, pipeline_id, expected=expected, actor=caller.name)

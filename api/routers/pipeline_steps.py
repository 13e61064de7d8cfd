"""``/admin/pipelines/{id}/steps``. The ETag is the pipeline's."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Response

from api.context import ContextDep
from api.etags import IfMatch, set_etag
from api.paging import Cursor, Limit, encode_cursor, page_in_memory
from api.pipeline_documents import new_step_values, step_of, step_values
from api.routers.pipelines import PipelineId, Reader, Writer
from api.routing import admin_router
from api.schemas.conventions import Listing
from api.schemas.pipelines import Step, StepCreate, StepPatch
from latchflow.store import pipeline_steps
from latchflow.store.pipelines import get_pipeline

router = admin_router("/admin/pipelines/{pipelineId}/steps", "pipelines")

StepId = Annotated[UUID, Path(alias="stepId")]


@router.get("", summary="List the steps of a pipeline", operation_id="listPipelineSteps")
async def list_steps(
    context: ContextDep,
    _: Reader,
    pipeline_id: PipelineId,
    response: Response,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Listing[Step]:
    """By `sortOrder`."""
    async with context.database.connection() as connection:
        pipeline = await get_pipeline(connection, pipeline_id)
    listing = f"pipelines/{pipeline_id}/steps"
    page = page_in_memory(listing, pipeline.steps, lambda step: (step.sort_order, str(step.id)), limit, cursor)
    set_etag(response, pipeline.version)
    items = [step_of(step) for step in page.items]
    return Listing(items=items, next_cursor=encode_cursor(listing, page.next_key))


@router.post("", summary="Add a step to a pipeline", operation_id="addPipelineStep", status_code=201)
async def add_step(
    context: ContextDep, caller: Writer, pipeline_id: PipelineId, body: StepCreate, response: Response
) -> Step:
    """Its expressions are compiled now; a mistake is named with line and column."""
    async with context.database.transaction() as connection:
        pipeline, step = await pipeline_steps.add_step(
            connection, pipeline_id, new_step_values(body), actor=caller.name
        )
    set_etag(response, pipeline.version)
    return step_of(step)


@router.get("/{stepId}", summary="Read a step of a pipeline", operation_id="getPipelineStep")
async def get_step(
    context: ContextDep, _: Reader, pipeline_id: PipelineId, step_id: StepId, response: Response
) -> Step:
    """One step."""
    async with context.database.connection() as connection:
        pipeline = await get_pipeline(connection, pipeline_id)
    step = pipeline_steps.find_step(pipeline, step_id)
    set_etag(response, pipeline.version)
    return step_of(step)


@router.patch("/{stepId}", summary="Change a step", operation_id="changePipelineStep")
async def change_step(
    context: ContextDep,
    caller: Writer,
    pipeline_id: PipelineId,
    step_id: StepId,
    expected: IfMatch,
    body: StepPatch,
    response: Response,
) -> Step:
    """Only the fields sent change; `sortOrder` reorders."""
    async with context.database.transaction() as connection:
        pipeline, step = await pipeline_steps.change_step(
            connection, pipeline_id, step_id, step_values(body.given()), expected=expected, actor=caller.name
        )
    set_etag(response, pipeline.version)
    return step_of(step)


@router.delete("/{stepId}", summary="Remove a step", operation_id="removePipelineStep", status_code=204)
async def remove_step(
    context: ContextDep,
    caller: Writer,
    pipeline_id: PipelineId,
    step_id: StepId,
    expected: IfMatch,
    response: Response,
) -> None:
    """The action definition stays."""
    async with context.database.transaction() as connection:
        pipeline = await pipeline_steps.remove_step(
            connection, pipeline_id, step_id, expected=expected, actor=caller.name
        )
    set_etag(response, pipeline.version)

"""``/admin/actions``."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Query, Response

from api.auth import Caller, requires
from api.context import Context, ContextDep
from api.documents import action_of, draft_of, plain
from api.etags import IfMatch, set_etag
from api.paging import Cursor, Limit, decode_time_cursor, encode_cursor
from api.routing import admin_router
from api.schemas.conventions import Listing
from api.schemas.definitions import Action, ActionCreate, ActionPatch
from api.schemas.events import Execution
from api.schemas.operations import Opened, TestRunBody
from latchflow.errors import FieldError, InvalidInputError
from latchflow.store.definition_changes import change_definition, create_definition, delete_definition
from latchflow.store.definitions import ACTIONS, Definition, get_definition, list_definitions
from latchflow.store.event_documents import list_executions

router = admin_router("/admin/actions", "actions")

Reader = Annotated[Caller, requires("definitions:read")]
Writer = Annotated[Caller, requires("definitions:write")]
EventReader = Annotated[Caller, requires("events:read")]
ActionId = Annotated[UUID, Path(alias="actionId")]

_LISTING = "actions"


@router.get("", summary="List action definitions", operation_id="listActions")
async def list_actions(context: ContextDep, _: Reader, limit: Limit = 50, cursor: Cursor = None) -> Listing[Action]:
    """In the order they were created."""
    after = decode_time_cursor(_LISTING, cursor)
    async with context.database.connection() as connection:
        page = await list_definitions(connection, context.keyring, ACTIONS, limit=limit, after=after)
    return Listing(items=list(map(action_of, page.items)), next_cursor=encode_cursor(_LISTING, page.next_key))


@router.post("", summary="Create an action definition", operation_id="createAction", status_code=201)
async def create_action(context: ContextDep, caller: Writer, body: ActionCreate, response: Response) -> Action:
    """The config must satisfy the schema of the capability."""
    async with context.database.transaction() as connection:
        action = await create_definition(connection, context.keyring, ACTIONS, draft_of(body), actor=caller.name)
        refuse_switched_off(context, action)
    set_etag(response, action.version)
    return action_of(action)


@router.get("/{actionId}", summary="Read an action definition", operation_id="getAction")
async def get_action(context: ContextDep, _: Reader, action_id: ActionId, response: Response) -> Action:
    """Secrets show as ``********``."""
    async with context.database.connection() as connection:
        action = await get_definition(connection, context.keyring, ACTIONS, action_id)
    set_etag(response, action.version)
    return action_of(action)


@router.patch("/{actionId}", summary="Change an action definition", operation_id="changeAction")
async def change_action(
    context: ContextDep,
    caller: Writer,
    action_id: ActionId,
    expected: IfMatch,
    body: ActionPatch,
    response: Response,
) -> Action:
    """Only the fields sent change; a config replaces the whole."""
    async with context.database.transaction() as connection:
        action = await change_definition(
            connection, context.keyring, ACTIONS, action_id, plain(body.given()), expected=expected, actor=caller.name
        )
        refuse_switched_off(context, action)
    set_etag(response, action.version)
    return action_of(action)


@router.delete("/{actionId}", summary="Delete an action definition", operation_id="deleteAction", status_code=204)
async def delete_action(
    context: ContextDep,
    caller: Writer,
    action_id: ActionId,
    expected: IfMatch,
    cascade: Annotated[bool, Query(description="Remove the steps that use it first.")] = False,
) -> None:
    """Refused while pipelines use it, unless it cascades."""
    async with context.database.transaction() as connection:
        await delete_definition(
            connection,
            context.keyring,
            ACTIONS,
            action_id,
            expected=expected,
            cascade=cascade,
            actor=caller.name,
        )


@router.get("/{actionId}/executions", summary="List the executions of an action", operation_id="listActionExecutions")
async def list_action_executions(
    context: ContextDep, caller: EventReader, action_id: ActionId, limit: Limit = 50, cursor: Cursor = None
) -> Listing[Execution]:
    """Invocations with their attempts, newest first."""
    listing = f"actions/{action_id}/executions"
    after = decode_time_cursor(listing, cursor)
    async with context.database.connection() as connection:
        await get_definition(connection, context.keyring, ACTIONS, action_id)
        page = await list_executions(
            connection, context.keyring, action_id, limit=limit, after=after, limits=caller.limits
        )
    items = [Execution.model_validate(row) for row in page.items]
    return Listing(items=items, next_cursor=encode_cursor(listing, page.next_key))


@router.post("/{actionId}/test-run", summary="Try an action out", operation_id="testRunAction", status_code=202)
async def try_action_out(
    context: ContextDep, caller: Writer, action_id: ActionId, body: TestRunBody | None = None
) -> Opened:
    """One real run of it, with the payload as its input, recorded as an event; also of a disabled action."""
    payload = (body or TestRunBody()).payload
    accepted = await context.rerunner.try_out(action_id, payload, actor=caller.name)
    return Opened(event_id=accepted.event_id)


def refuse_switched_off(context: Context, action: Definition) -> None:
    """Refuse an enabled definition of an action that this deployment does not run, inside the change's transaction.

    Raises:
        InvalidInputError: Says how to switch it on.
    """
    reason = context.settings.switched_off.get((action.plugin, action.capability_key))
    if reason is not None and action.is_enabled:
        raise InvalidInputError(reason, [FieldError(pointer="/capability", message=reason)])

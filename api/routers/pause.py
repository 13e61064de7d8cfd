"""``/system/pause`` and ``/system/resume``."""

from typing import Annotated

from api.auth import Caller, requires
from api.context import ContextDep
from api.routing import admin_router
from api.schemas.health import PauseChange, PauseState
from latchflow.store import pause

router = admin_router("/system", "system")

Writer = Annotated[Caller, requires("config:write")]
OptionalChange = PauseChange | None


@router.post("/pause", summary="Let accepted events wait", operation_id="pause")
async def pause_all(context: ContextDep, caller: Writer, body: OptionalChange = None) -> PauseState:
    """Deliveries are still accepted. What runs goes on; what is paused already stays as it is."""
    return await _change(context, caller, body, is_paused=True)


@router.post("/resume", summary="Let events start again", operation_id="resume")
async def resume_all(context: ContextDep, caller: Writer, body: OptionalChange = None) -> PauseState:
    """Those that wait start bit by bit, the oldest first."""
    return await _change(context, caller, body, is_paused=False)


async def _change(context: ContextDep, caller: Caller, body: PauseChange | None, *, is_paused: bool) -> PauseState:
    reason = body.reason if body else None
    async with context.database.transaction() as connection:
        state = await pause.change(connection, is_paused=is_paused, reason=reason, actor=caller.name)
    return PauseState.model_validate(state)

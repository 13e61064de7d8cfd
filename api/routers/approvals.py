"""``/admin/invocations/{invocationId}/approval``: a person decides."""

from typing import Annotated
from uuid import UUID

from fastapi import Path, Request

from api.auth import Caller, requires
from api.bounded_audit import denied_call
from api.context import ContextDep
from api.routing import admin_router
from api.schemas.approvals import ApprovalBody, Approved
from latchflow.errors import NotAllowedError
from latchflow.store.approvals import Verdict, decide

router = admin_router("/admin/invocations", "approvals")

Operator = Annotated[Caller, requires("events:operate")]
InvocationId = Annotated[UUID, Path(alias="invocationId")]


@router.post(
    "/{invocationId}/approval", status_code=202, summary="Decide about an approval", operation_id="decideApproval"
)
async def decide_approval(
    context: ContextDep, caller: Operator, invocation_id: InvocationId, body: ApprovalBody, request: Request
) -> Approved:
    """The first decision holds. It is on record when this answers; Temporal may hear of it later."""
    verdict = Verdict(decision=body.decision, comment=body.comment, by=caller.name)
    try:
        async with context.database.transaction() as connection:
            await decide(connection, invocation_id, verdict, limits=caller.limits)
    except NotAllowedError:
        entry = denied_call(reason="approver", method=request.method, path=request.url.path, actor=caller.name)
        await context.denials.record(entry)
        raise
    context.waker.wake_soon(invocation_id)
    return Approved(invocation_id=invocation_id, decision=body.decision)

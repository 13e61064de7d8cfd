"""``/invitations/{token}``: the page behind the link of an invitation. Reading it changes nothing; its form POSTs."""

import base64
import hashlib
from html import escape
from typing import Annotated

from fastapi import APIRouter, Path, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from api.bounded_audit import denied_call
from api.context import ContextDep
from api.errors import problem
from api.routing import PROBLEMS
from latchflow.store import invitations
from latchflow.store.invitations import Presented

router = APIRouter(prefix="/invitations", tags=["invitations"], responses=PROBLEMS)

Token = Annotated[str, Path(max_length=200)]

_REFUSALS = {
    "unknown": "There is no such invitation. Open the link exactly as it stands in the mail.",
    "used": "This invitation has been accepted already. Ask an admin for another one if the token is lost.",
    "revoked": "This invitation was replaced by a newer one, or revoked.",
    "expired": "This invitation has expired. Ask an admin for another one.",
    "disabled": "This user is disabled.",
}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:4rem auto;padding:0 1rem}"
    "code{display:block;padding:1rem;background:#eee;color:#000;overflow-wrap:anywhere}"
    "button{font:inherit;padding:.5rem 1rem}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
}


@router.get("/{token}", summary="Look at an invitation", operation_id="getInvitation", response_class=HTMLResponse)
async def show_invitation(context: ContextDep, token: Token, request: Request) -> Response:
    """A page with a button; programs that follow links in mails change nothing by it."""
    async with context.database.connection() as connection:
        invitation = await invitations.look_up(connection, token)
    if invitation is None or invitation.refusal is not None:
        return await _refused(context, request, invitation)
    return _page(
        200,
        f"<p>{escape(invitation.email)}, you are invited to Latchflow as {escape(invitation.role)}.</p>"
        '<form method="post"><button>Accept the invitation</button></form>',
    )


@router.post("/{token}", summary="Accept an invitation", operation_id="acceptInvitation", response_class=HTMLResponse)
async def accept_invitation(context: ContextDep, token: Token, request: Request) -> Response:
    """Once. The answer shows the personal token this once: `{"email", "role", "token"}` where JSON is asked for."""
    async with context.database.transaction() as connection:
        accepted = await invitations.accept(connection, token)
    invitation, personal = accepted or (None, None)
    if invitation is None or personal is None:
        return await _refused(context, request, invitation)
    if _wants_json(request):
        document = {"email": invitation.email, "role": invitation.role, "token": personal}
        return JSONResponse(document, headers=_HEADERS)
    return _page(
        200,
        f"<p>Welcome, {escape(invitation.email)}. This is your personal token. It is shown this once: keep it safe.</p>"
        f"<code>{escape(personal)}</code>"
        "<p>Send it with each call: <code>Authorization: Bearer lfk_…</code></p>",
    )


async def _refused(context: ContextDep, request: Request, invitation: Presented | None) -> Response:
    reason = (invitation.refusal if invitation else None) or "unknown"
    actor = invitation.email if invitation else None
    await context.denials.record(
        denied_call(reason=f"invitation_{reason}", method=request.method, path="/invitations/…", actor=actor)
    )
    status = 404 if invitation is None else 410
    if _wants_json(request):
        return problem(status, _REFUSALS[reason], code="not_found" if status == 404 else "gone", headers=_HEADERS)
    return _page(status, f"<p>{escape(_REFUSALS[reason])}</p>")


def _page(status: int, content: str) -> HTMLResponse:
    document = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Latchflow</title>'
        '<meta name="viewport" content="width=device-width">'
        f"<style>{_STYLE}</style></head><body><h1>Latchflow</h1>{content}</body></html>"
    )
    return HTMLResponse(document, status, headers=_HEADERS)


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "").lower()
    return "text/html" not in accepted and ("application/json" in accepted or "application/problem+json" in accepted)

"""The HTTP face of the mail sink."""

from html import escape
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from latchflow.dev.mailbox import Mailbox

_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Latchflow mail sink</title>
<style>
  body {{ font: 15px/1.5 system-ui; margin: 2rem; max-width: 60rem }}
  pre {{ white-space: pre-wrap; background: #f4f4f4; padding: .7rem }}
</style>
<h1>Caught mails</h1><p>{count}, newest first. Nothing was delivered. As data: <a href="/messages">/messages</a>.</p>
{mails}</html>
"""
_MAIL = """<h2>{subject}</h2>
<p>{sender} &rarr; {recipients}, {received_at}, <a href="/messages/{id}/raw">raw</a></p><pre>{body}</pre>
"""


def sink_app(mailbox: Mailbox) -> Starlette:
    """The application that shows a mailbox: ``/``, ``/messages``, ``/messages/{id}/raw``."""

    # Plain functions: Starlette runs them in a thread, so that reading a thousand mails does not stop the supervision.
    def page(request: Request) -> Response:
        mails = mailbox.documents()
        return HTMLResponse(_PAGE.format(count=len(mails), mails="".join(map(_html, reversed(mails)))))

    def messages(request: Request) -> Response:
        return JSONResponse({"items": mailbox.documents()})

    async def clear(request: Request) -> Response:
        mailbox.clear()
        return Response(status_code=204)

    def raw(request: Request) -> Response:
        mail = mailbox.find(request.path_params["mail_id"])
        if mail is None:
            return PlainTextResponse("There is no such mail.\n", status_code=404)
        # As text whatever it is: a mail is foreign content and must not run on this page's origin.
        return Response(mail.raw, media_type="text/plain", headers={"X-Content-Type-Options": "nosniff"})

    return Starlette(
        routes=[
            Route("/", page),
            Route("/messages", messages, methods=["GET"]),
            Route("/messages", clear, methods=["DELETE"]),
            Route("/messages/{mail_id}/raw", raw),
        ],
        # A foreign web page that lets its own name point to this machine (DNS rebinding) is turned away.
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])],
    )


def _html(document: dict[str, Any]) -> str:
    return _MAIL.format(
        id=escape(document["id"]),
        subject=escape(document["subject"] or "(no subject)"),
        sender=escape(document["mailFrom"] or "<>"),
        recipients=escape(", ".join(document["rcptTo"])),
        received_at=escape(document["receivedAt"]),
        body=escape(document["textBody"] or document["htmlBody"] or ""),
    )

"""The content of an object as a response."""

from collections.abc import Mapping
from contextlib import aclosing
from urllib.parse import quote

from fastapi import Response
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from latchflow.services.storage import OpenObject

# Whoever stored it decided what it is; no browser may run it in the name of this server.
_SAFETY = {"X-Content-Type-Options": "nosniff", "Content-Security-Policy": "sandbox; default-src 'none'"}


async def content_response(
    opened: OpenObject, *, if_none_match: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Stream an object as a file to save; 304 without its content when the caller has it already."""
    entry = opened.entry
    etag = f'"{entry.sha256.hex()}"'
    fields = {"ETag": etag, "Accept-Ranges": "none", **_SAFETY, **(headers or {})}
    if if_none_match is not None and _names(if_none_match, etag):
        await opened.aclose()
        return Response(status_code=304, headers=fields)
    fields |= {
        "Content-Type": entry.content_type,
        "Content-Length": str(entry.size),
        "Content-Disposition": _disposition(entry.path),
    }
    return _Streamed(opened, fields)


class _Streamed(StreamingResponse):
    """Lets go of the content also when the receiver leaves before its end."""

    def __init__(self, opened: OpenObject, headers: Mapping[str, str]) -> None:
        super().__init__(opened.chunks(), headers=headers)
        self._opened = opened

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        async with aclosing(self._opened):
            await super().__call__(scope, receive, send)


def _names(if_none_match: str, etag: str) -> bool:
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags


def _disposition(path: str) -> str:
    """As RFC 6266 says: a plain name for old clients, the true one encoded."""
    name = path.rpartition("/")[2]
    plain = "".join(character if character.isascii() and character not in '"\\%' else "_" for character in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"

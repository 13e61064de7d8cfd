"""What stands around every route: the last net, the limit of bodies, the token."""

import re

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import authenticate, is_public
from api.errors import problem_of, unexpected
from latchflow.errors import LatchflowError, MalformedError, TooLargeError

_OBJECT = re.compile(r"/admin/bundles/[^/]+/objects/")


class LastNet:
    """Answers an error that nothing else caught, instead of handing its traceback to the server."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        has_started = False

        async def noting_send(message: Message) -> None:
            nonlocal has_started
            has_started = has_started or message["type"] == "http.response.start"
            await send(message)

        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, noting_send)
        except LatchflowError as error:
            response = problem_of(error)
        except Exception as error:
            response = unexpected(error)
        else:
            return
        if not has_started:
            await response(scope, receive, send)


class BodyLimit:
    """Refuses a body over the limit: by its Content-Length before anything is read, else while it is read.

    The content of an object is never in memory whole and has a limit of its own.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_object_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_object_bytes = max_object_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        max_bytes = self._max_object_bytes if _carries_object(scope) else self._max_bytes
        too_large = TooLargeError(f"The body is larger than {max_bytes} bytes, the limit of this server.")
        length = Headers(scope=scope).get("content-length")
        if length is not None and not length.isdecimal():
            raise MalformedError("Content-Length is no number.")
        if length is not None and int(length) > max_bytes:
            raise too_large
        read_bytes = 0
        has_started = is_replaced = False

        async def counting_receive() -> Message:
            nonlocal read_bytes
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > max_bytes:
                raise too_large
            return message

        async def replacing_send(message: Message) -> None:
            # Whatever an inner handler made of the error above, the sender learns the true reason.
            nonlocal has_started, is_replaced
            if read_bytes > max_bytes and not has_started:
                has_started = is_replaced = True
                await problem_of(too_large)(scope, receive, send)
            has_started = True
            if not is_replaced:
                await send(message)

        await self._app(scope, counting_receive, replacing_send)


def _carries_object(scope: Scope) -> bool:
    return scope["method"] == "PUT" and _OBJECT.match(scope["path"]) is not None


class Authentication:
    """Lets only calls with a good token through, but for the public paths; keeps the caller in the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and not is_public(scope["path"]):
            await authenticate(scope)
        await self._app(scope, receive, send)

"""What stands around every route: the last net, the limit of bodies, the token."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.auth import authenticate, is_public
from api.errors import problem_of, unexpected
from latchflow.errors import LatchflowError, MalformedError, TooLargeError


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
    """Refuses a body over the limit: by its Content-Length before anything is read, else while it is read."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        too_large = TooLargeError(f"The body is larger than {self._max_bytes} bytes, the limit of this server.")
        length = Headers(scope=scope).get("content-length")
        if length is not None and not length.isdecimal():
            raise MalformedError("Content-Length is no number.")
        if length is not None and int(length) > self._max_bytes:
            raise too_large
        read_bytes = 0
        has_started = False

        async def counting_receive() -> Message:
            nonlocal read_bytes
            message = await receive()
            read_bytes += len(message.get("body", b""))
            if read_bytes > self._max_bytes:
                raise too_large
            return message

        async def replacing_send(message: Message) -> None:
            # Whatever an inner handler made of the error above, the sender learns the true reason.
            nonlocal has_started
            if read_bytes > self._max_bytes and not has_started:
                raise too_large
            has_started = True
            await send(message)

        await self._app(scope, counting_receive, replacing_send)


class Authentication:
    """Lets only calls with a good token through, but for the public paths; keeps the caller in the scope."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http" and not is_public(scope["path"]):
            await authenticate(scope)
        await self._app(scope, receive, send)

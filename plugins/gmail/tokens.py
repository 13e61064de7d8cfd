"""Access tokens, through google-auth, whose requests go through core's HTTP."""

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from google.auth import exceptions, transport
from google.oauth2.credentials import Credentials

from latchflow.sdk import HttpRequest, HttpResponse, HttpService, ServiceError

from .config import GmailConfig

_TIMEOUT = timedelta(seconds=20)
_LAST_SECONDS = 30.0


class AccessTokens:
    """The access token of one mailbox, refreshed when it is about to expire."""

    def __init__(self, config: GmailConfig, secrets: Mapping[str, Any], http: HttpService) -> None:
        self._http = http
        self._refreshing = asyncio.Lock()
        self._credentials = Credentials(  # type: ignore[no-untyped-call]
            token=None,
            refresh_token=secrets["refreshToken"],
            client_id=config.client_id,
            client_secret=secrets["clientSecret"],
            token_uri=config.token_url,
        )

    async def current(self, *, refused: str | None = None) -> str:
        """A token that is good.

        Args:
            refused: A token that Gmail did not take: another one is fetched, however long it should have been good.

        Raises:
            ServiceError: ``denied`` when the owner of the mailbox no longer allows it, ``retryable`` when there is no
                answer.
        """
        async with self._refreshing:
            if not self._credentials.valid or self._credentials.token == refused:
                await self._refresh()
            return str(self._credentials.token)

    async def _refresh(self) -> None:
        request = _Request(self._http, asyncio.get_running_loop())
        try:
            await asyncio.to_thread(self._credentials.refresh, request)
        except exceptions.GoogleAuthError as error:
            if isinstance(error.__cause__, ServiceError):  # there was no answer
                raise error.__cause__ from None
            if error.retryable or isinstance(error, exceptions.TransportError):
                raise ServiceError("retryable", f"Google gives no access token now: {error}") from error
            message = (
                f"Google gives no access token: {error}. If the refresh token was revoked or the client has changed, "
                "run `latchflow providers authorize gmail` again."
            )
            raise ServiceError("denied", message) from error


class _Request(transport.Request):
    """What google-auth sends a request with, from a thread: over core's HTTP, on the plugin's loop."""

    def __init__(self, http: HttpService, loop: asyncio.AbstractEventLoop) -> None:
        self._http = http
        self._loop = loop

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> "_Response":
        """Send one request and wait for its answer."""
        # Fetching a token twice does no harm.
        request = HttpRequest(
            method=method, url=url, headers=headers or {}, content=body, timeout=_TIMEOUT, is_repeatable=True
        )
        try:
            # The time limit is for a loop that has stopped meanwhile; the request has one of its own.
            answer = asyncio.run_coroutine_threadsafe(self._http.request(request), self._loop).result(_LAST_SECONDS)
        except (ServiceError, TimeoutError) as error:
            raise exceptions.TransportError(str(error)) from error  # type: ignore[no-untyped-call]
        return _Response(answer)


class _Response(transport.Response):
    def __init__(self, answer: HttpResponse) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    @property
    def data(self) -> bytes:
        return self._answer.content

"""Sending through the Gmail API."""

import asyncio
import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from latchflow.sdk import (
    EmailDelivery,
    HttpRequest,
    HttpResponse,
    ProviderSetup,
    SendResult,
    ServiceError,
)

from .answers import document, refusal
from .config import GmailConfig
from .mime import written
from .tokens import AccessTokens

_MESSAGES = "/gmail/v1/users/me/messages"
_LARGEST_IN_JSON = 3 * 1024 * 1024  # beyond, the message goes to the address for uploads, which takes up to 35 MB
_SEARCHES = (0.0, 1.0, 3.0)
"""Seconds to wait before each look for a mail: Gmail's index may be a little behind."""
_LEAST = timedelta(milliseconds=100)


class GmailProvider:
    """Sends mails from one mailbox; implements `latchflow.sdk.EmailProvider` and `latchflow.sdk.EmailLookup`."""

    def __init__(self, setup: ProviderSetup[GmailConfig]) -> None:
        self._config = setup.config
        self._http = setup.http
        self._tokens = AccessTokens(setup.config, setup.secrets, setup.http)
        self._api = setup.config.api_url.rstrip("/")

    async def send(self, delivery: EmailDelivery) -> SendResult:
        """Send one mail under the ``Message-ID`` of the delivery.

        Raises:
            ServiceError: As `latchflow.sdk.EmailProvider.send`; which answer becomes which kind stands in `answers`.
        """
        try:
            content = written(delivery, self._config.sender)
        except (ValueError, LookupError) as error:
            raise ServiceError("validation", f"The mail cannot be written: {error}") from error
        token = await self._tokens.current()
        response = await self._handed_over(content, token, delivery)
        if response.status == 401:
            # Refused before it was looked at. The token may have been revoked early, so one more, and no third.
            token = await self._tokens.current(refused=token)
            response = await self._handed_over(content, token, delivery)
        if not 200 <= response.status < 300:
            raise refusal(response)
        return _result(delivery, document(response).get("id"))

    async def find(self, delivery: EmailDelivery) -> SendResult | None:
        """Look for a mail by its ``Message-ID``.

        Needs the scope ``gmail.readonly`` of the mailbox beside ``gmail.send``.

        Raises:
            ServiceError: ``retryable`` and ``rate_limited`` when Gmail does not say now, ``denied`` when it may not.
        """
        for wait in _SEARCHES:
            if wait and _left(delivery) < timedelta(seconds=wait + 1):
                break
            await asyncio.sleep(wait)
            messages = (await self._search(delivery)).get("messages")
            if isinstance(messages, list) and messages:
                return _result(delivery, messages[0].get("id") if isinstance(messages[0], dict) else None)
        return None

    async def _handed_over(self, content: bytes, token: str, delivery: EmailDelivery) -> HttpResponse:
        body: dict[str, Any]
        if len(content) <= _LARGEST_IN_JSON:
            url = f"{self._api}{_MESSAGES}/send"
            body = {"json": {"raw": base64.urlsafe_b64encode(content).decode()}}
        else:
            url = f"{self._api}/upload{_MESSAGES}/send?uploadType=media"
            body = {"content": content, "headers": {"Content-Type": "message/rfc822"}}
        if delivery.deadline <= datetime.now(UTC):
            raise ServiceError("retryable", "Not sent: the time for it was up before it could be handed over.")
        request = HttpRequest(method="POST", url=url, **self._common(token, delivery), **body)
        try:
            return await self._http.request(request)
        except ServiceError as error:
            if error.kind == "fatal":  # an answer that could not be read is no refusal
                raise ServiceError("outcome_unknown", str(error)) from error
            raise

    async def _search(self, delivery: EmailDelivery) -> dict[str, Any]:
        token = await self._tokens.current()
        response = await self._asked(delivery, token)
        if response.status == 401:
            response = await self._asked(delivery, await self._tokens.current(refused=token))
        if 200 <= response.status < 300:
            return document(response)
        error = refusal(response)
        if error.kind == "outcome_unknown":  # it has not answered the question, and may do so later
            raise ServiceError("retryable", str(error))
        raise error

    async def _asked(self, delivery: EmailDelivery, token: str) -> HttpResponse:
        query = {
            "q": f"rfc822msgid:{delivery.message_id.strip('<>')}",
            "maxResults": "1",
            "includeSpamTrash": "true",
        }
        url = f"{self._api}{_MESSAGES}"
        return await self._http.request(
            HttpRequest(method="GET", url=url, query=query, **self._common(token, delivery))
        )

    def _common(self, token: str, delivery: EmailDelivery) -> dict[str, Any]:
        return {
            "secret_headers": {"Authorization": f"Bearer {token}"},
            "timeout": max(_left(delivery), _LEAST),
        }


def _left(delivery: EmailDelivery) -> timedelta:
    """Ends before core stops listening, so that the attempt still learns how far the request had come."""
    left = delivery.deadline - datetime.now(UTC)
    return left - min(timedelta(seconds=1), left / 10)


def _result(delivery: EmailDelivery, identifier: object) -> SendResult:
    message = delivery.message
    recipients = dict.fromkeys(entry.address for entry in (*message.to, *message.cc, *message.bcc))
    return SendResult(provider_message_id=str(identifier or delivery.message_id), accepted_recipients=tuple(recipients))

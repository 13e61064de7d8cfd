"""Mail behind the guard."""

import json
from collections.abc import Sequence

from pydantic import TypeAdapter

from latchflow.runtime.guard.arguments import actor_of, message_of, scopes_of
from latchflow.runtime.guard.backends import EmailBackend
from latchflow.runtime.guard.grant import Asked, Effect, Grant, Handle
from latchflow.sdk import EmailMessage, SendResult

_RESULT = TypeAdapter(SendResult)


class GuardedEmail:
    """`latchflow.sdk.EmailService` for one attempt."""

    def __init__(self, backend: EmailBackend, grant: Grant) -> None:
        self._backend = backend
        self._grant = grant

    async def send(
        self,
        message: EmailMessage,
        *,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("email:send",),
    ) -> SendResult:
        """Send one mail, once for all attempts."""
        message = message_of(message)
        deadline = self._grant.cutoff
        recipients = [entry.address for entry in (*message.to, *message.cc, *message.bcc)]
        asked = Asked(
            service="email.send",
            scopes=scopes_of("email:send", requested_scopes),
            actor_id=actor_of(actor_id),
            detail={"recipients": len(recipients)},
        )

        async def find(key: str, via: str | None) -> SendResult | None:
            return await self._backend.find(message, idempotency_key=key, via=via, deadline=deadline)

        async def work(effect: Handle) -> SendResult:
            return await self._backend.send(message, effect=effect, deadline=deadline)

        effect = Effect(
            target="\n".join(sorted(recipients)),
            content=_content(message),
            identity=repr(message),
            result=_RESULT,
            find=find,
        )
        return await self._grant.effect(asked, effect, work)


def _content(message: EmailMessage) -> str:
    """What a mail says. Of files only what they are called: one that is generated differs by its time of the day."""
    said = {
        "subject": message.subject,
        "texts": [message.text_body, message.html_body],
        "attachments": [[attachment.name, attachment.content_type] for attachment in message.attachments],
    }
    return json.dumps(said)

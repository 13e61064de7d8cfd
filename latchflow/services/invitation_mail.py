"""The mail of an invitation."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

import structlog

from latchflow.errors import UnavailableError
from latchflow.masking import Masker, hidden_in_logs, readable
from latchflow.sdk import EmailAddress, EmailMessage, SendResult, ServiceError
from latchflow.services.handover import Handover, UnsettledError
from latchflow.store import invitations
from latchflow.store.database import Database
from latchflow.store.invitations import GOOD_FOR, Issued
from latchflow.store.users import StoredUser

_LONGEST_PROBLEM = 500

log = structlog.get_logger(__name__)


class Mailer(Protocol):
    """Sends mails; `latchflow.services.mail.Mail` is one."""

    async def send(self, message: EmailMessage, *, effect: Handover, deadline: datetime) -> SendResult:
        """Send one mail. Raises as `latchflow.sdk.EmailService.send`."""
        ...

    async def find(
        self, message: EmailMessage, *, idempotency_key: str, via: str | None, deadline: datetime
    ) -> SendResult | None:
        """What became of a mail; raises ``outcome_unknown`` when nobody can say."""
        ...


@dataclass(frozen=True, kw_only=True)
class OwnEffect:
    """An effect that no attempt asked for, so that no ledger has it."""

    key: str

    async def via(self, provider: str) -> None:
        """Nobody asks for it afterwards: an admin sees that the mail may have been sent, and decides."""


class InvitationMail:
    """Sends the links by which invited people become users.

    Args:
        database: Where it is noted what became of each mail.
        mailer: Sends them.
        public_url: Where people reach the API; empty: it is not known.
    """

    def __init__(self, database: Database, mailer: Mailer, *, public_url: str) -> None:
        self._database = database
        self._mailer = mailer
        self._public_url = public_url

    @property
    def fault(self) -> str | None:
        """Why no link can be made; None when one can."""
        if self._public_url:
            return None
        return "Invitations hold a link, and its address is not known. An operator sets LATCHFLOW_PUBLIC_URL."

    async def send(self, user: StoredUser, invitation: Issued, *, effect: Handover, deadline: datetime) -> None:
        """Send the link, and note what became of it.

        Raises:
            ServiceError: As `latchflow.sdk.EmailService.send`, without the link.
        """
        message = _message(user, f"{self._public_url}/invitations/{invitation.token}")
        try:
            with hidden_in_logs(invitation.token):
                await self._mailer.send(message, effect=effect, deadline=deadline)
        except ServiceError as error:
            problem = readable(Masker([invitation.token]).text(str(error)))
            is_open = error.kind == "outcome_unknown" or isinstance(error, UnsettledError)
            await self._note(invitation.id, "unknown" if is_open else "failed", problem[:_LONGEST_PROBLEM])
            if isinstance(error, UnsettledError):
                raise UnsettledError(problem, retry_after=error.retry_after) from None
            raise ServiceError(error.kind, problem, retry_after=error.retry_after) from None
        except BaseException:
            # Cancelled, or a fault of core's own, in the middle: nobody knows.
            await self._note(invitation.id, "unknown", "It was interrupted; the mail may have been sent.")
            raise
        await self._note(invitation.id, "sent", None)

    async def was_sent(self, user: StoredUser, *, effect_key: str, via: str | None, deadline: datetime) -> bool:
        """Whether the mail of an effect that was cut off reached its provider.

        Raises:
            ServiceError: ``outcome_unknown``: nobody can say; ``retryable``: nobody can say now.
        """
        if via is None:
            return False  # That it goes to a provider is on record before any provider gets it.
        # The link is gone with the process that made it. A mail is found by its key.
        found = await self._mailer.find(_message(user, ""), idempotency_key=effect_key, via=via, deadline=deadline)
        if found is None:
            return False
        async with self._database.connection() as connection:
            await invitations.note_found(connection, user.id, effect_key)
        return True

    async def _note(self, invitation_id: UUID, mail: str, problem: str | None) -> None:
        async def note() -> None:
            try:
                async with self._database.connection() as connection:
                    await invitations.note_mail(connection, invitation_id, mail, problem)
            except UnavailableError:
                # It stays `sending`, which reads as: it may have been sent. What the mail became is not changed by it.
                log.warning("what became of an invitation's mail could not be noted", mail=mail)

        await asyncio.shield(asyncio.ensure_future(note()))


def _message(user: StoredUser, link: str) -> EmailMessage:
    until = f"{datetime.now(UTC) + GOOD_FOR - timedelta(minutes=1):%Y-%m-%d %H:%M} UTC"
    text = (
        f"You are invited to Latchflow as {user.role}.\n\n"
        "Open this page and accept the invitation; it then shows your personal token:\n\n"
        f"{link}\n\n"
        f"The link works once, until {until}. Whoever has it can accept in your place: do not pass it on.\n"
        "If you did not expect this mail, do nothing.\n"
    )
    return EmailMessage(to=[EmailAddress(address=user.email)], subject="You are invited to Latchflow", text_body=text)

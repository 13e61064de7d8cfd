"""Mail for plugins: through the active provider, else by SMTP."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol

import structlog

from latchflow.sdk import EmailDelivery, EmailMessage, SendResult, ServiceError
from latchflow.services.email import SmtpEmail
from latchflow.services.email_message import check, message_id
from latchflow.services.handover import Handover, UnsettledError, require_time

_SMTP = "smtp"
# A provider that raised one of these may have taken the mail, or nobody would take it.
_FINAL = frozenset({"outcome_unknown", "validation"})

log = structlog.get_logger(__name__)


class MailProvider(Protocol):
    """A provider that is ready. Its methods raise nothing but `latchflow.sdk.ServiceError`."""

    @property
    def name(self) -> str:
        """Its name in records: the same as long as its plugin and its id are."""
        ...

    @property
    def can_find(self) -> bool:
        """Whether `find` may be called."""
        ...

    async def send(self, delivery: EmailDelivery) -> SendResult:
        """Send one mail; ``outcome_unknown`` when it may have been accepted all the same."""
        ...

    async def find(self, delivery: EmailDelivery) -> SendResult | None:
        """What became of a mail; None when the provider does not have it."""
        ...


class MailProviders(Protocol):
    """The email providers of this process, as they are configured now; each is kept while its block runs."""

    def active_email(self) -> AbstractAsyncContextManager[MailProvider | None]:
        """The one that sends; None when none is configured."""
        ...

    def email_named(self, name: str) -> AbstractAsyncContextManager[MailProvider | None]:
        """One by its name; None when it is not configured here any more."""
        ...


class Mail:
    """Sends through the active provider, and by SMTP when there is none or it refused before accepting the mail.

    Args:
        providers: Asked at every mail, so that a change of their configs holds at once.
        smtp: The mail server of now; None when there is none.
    """

    def __init__(self, providers: MailProviders, smtp: Callable[[], Awaitable[SmtpEmail | None]]) -> None:
        self._providers = providers
        self._smtp = smtp

    async def send(self, message: EmailMessage, *, effect: Handover, deadline: datetime) -> SendResult:
        """Send one mail. Raises as `latchflow.sdk.EmailService.send`.

        Raises:
            UnsettledError: The provider may have taken the mail, and can be asked by the next attempt.
        """
        check(message)
        async with self._providers.active_email() as provider:
            if provider is not None:
                return await self._by_provider(provider, message, effect, deadline)
        return await self._by_smtp(await self._smtp(), message, effect, deadline)

    async def find(
        self, message: EmailMessage, *, idempotency_key: str, via: str | None, deadline: datetime
    ) -> SendResult | None:
        """What became of a mail that was handed to `via`; None when it surely was not sent.

        Raises:
            ServiceError: ``outcome_unknown`` when nobody can say, ``retryable`` when nobody can say now.
        """
        if via is None:
            return None  # it is said before each hand-over, so none took place
        if via != _SMTP:
            async with self._providers.email_named(via) as provider:
                if provider is not None and provider.can_find:
                    return await _found(provider, _delivery(message, idempotency_key, deadline))
        raise ServiceError("outcome_unknown", f"The mail may or may not have been sent; {via} cannot be asked.")

    async def _by_provider(
        self, provider: MailProvider, message: EmailMessage, effect: Handover, deadline: datetime
    ) -> SendResult:
        await effect.via(provider.name)
        delivery = _delivery(message, effect.key, deadline)
        require_time(deadline)
        try:
            return await provider.send(delivery)
        except ServiceError as error:
            if error.kind == "outcome_unknown" and provider.can_find:
                return await _settled(provider, delivery, error)
            smtp = await self._smtp() if error.kind not in _FINAL else None
            if smtp is None:
                raise
            log.warning("the mail goes out by SMTP instead", provider=provider.name, kind=error.kind, reason=str(error))
            return await self._instead(smtp, message, effect, deadline, error)

    async def _by_smtp(
        self, smtp: SmtpEmail | None, message: EmailMessage, effect: Handover, deadline: datetime
    ) -> SendResult:
        if smtp is None:
            raise ServiceError(
                "fatal", "Nothing delivers mails here. An admin sets SMTP_URL or configures an email provider."
            )
        await effect.via(_SMTP)
        return await smtp.send(message, idempotency_key=effect.key, deadline=deadline)

    async def _instead(
        self, smtp: SmtpEmail, message: EmailMessage, effect: Handover, deadline: datetime, refusal: ServiceError
    ) -> SendResult:
        try:
            return await self._by_smtp(smtp, message, effect, deadline)
        except ServiceError as error:
            # Neither took it. Another attempt is worth while if one of them may do better then.
            if error.kind == "outcome_unknown" or error.is_retryable or not refusal.is_retryable:
                raise
            raise refusal from error


async def _found(provider: MailProvider, delivery: EmailDelivery) -> SendResult | None:
    try:
        return await provider.find(delivery)
    except ServiceError as error:
        if error.is_retryable:
            raise
        reason = f"The mail may or may not have been sent, and {provider.name} does not say: {error}"
        raise ServiceError("outcome_unknown", reason) from error


async def _settled(provider: MailProvider, delivery: EmailDelivery, error: ServiceError) -> SendResult:
    """Ask at once; what the provider does not have yet, the next attempt asks for again before it sends."""
    try:
        found = await provider.find(delivery)
    except ServiceError as failure:
        raise UnsettledError(f"{error} {provider.name} does not say now: {failure}") from error
    if found is None:
        raise UnsettledError(f"{error} {provider.name} does not have it so far; the next attempt looks again.")
    return found


def _delivery(message: EmailMessage, key: str, deadline: datetime) -> EmailDelivery:
    return EmailDelivery(message=message, message_id=message_id(message, key), idempotency_key=key, deadline=deadline)

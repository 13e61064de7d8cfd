"""Trying out what is, or may be, configured: by really connecting."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from latchflow.errors import ConfigurationError, InvalidInputError
from latchflow.masking import readable
from latchflow.runtime.providers.config_keys import HTTP_EGRESS_ALLOW, SMTP_FROM, SMTP_URL
from latchflow.runtime.providers.host_services import HostServices
from latchflow.runtime.providers.running_provider import RunningEmail
from latchflow.sdk import EmailAddress, EmailDelivery, EmailMessage, ServiceError
from latchflow.services.email import SmtpEmail
from latchflow.services.email_message import message_id

LIMIT = timedelta(seconds=30)


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """What became of it, for people to read."""

    ok: bool
    message: str


async def try_out(services: HostServices, key: str, value: Any, *, to: str | None) -> TrialResult:
    """Try a value of the system config; None tries what is configured.

    Args:
        services: Of this process.
        key: Which.
        value: What `SystemConfig.put` would take, masked secrets too.
        to: For mail: where to send one.

    Raises:
        InvalidInputError: There is no such key.
    """
    await services.config.entry(key)
    try:
        if value is not None:
            value = await services.config.candidate(key, value)
        async with asyncio.timeout(LIMIT.total_seconds() + 5):
            message = await _tried(services, key, value, to)
    except InvalidInputError as error:
        return TrialResult(ok=False, message="; ".join(f"{fault.pointer}: {fault.message}" for fault in error.errors))
    except (ConfigurationError, ServiceError) as error:
        return TrialResult(ok=False, message=readable(str(error)))
    except TimeoutError:
        return TrialResult(ok=False, message=f"No answer within {LIMIT.total_seconds():g} s.")
    return TrialResult(ok=True, message=message)


async def _tried(services: HostServices, key: str, value: Any, to: str | None) -> str:
    if key in (SMTP_URL, SMTP_FROM):
        url, sender = await services.config.smtp()
        if value is not None:
            url, sender = (value, sender) if key == SMTP_URL else (url, value)
        return await _smtp(SmtpEmail(url, sender, services.guard), to)
    if key == HTTP_EGRESS_ALLOW:
        await services.guard.current()
        return "The list can be used."
    if value is None:
        value = (await services.config.stored([key])).get(key)
    async with services.providers.trial(key, value) as running:
        if running.candidate.loaded.declaration.kind != "email":
            return "The config is valid, and the provider can be made of it. Nothing was connected to."
        return await _provider(RunningEmail(running), to)


async def _smtp(smtp: SmtpEmail, to: str | None) -> str:
    if to is None:
        await smtp.check()
        return "The mail server can be used. Nothing was sent."
    result = await smtp.send(_mail(to), idempotency_key=f"test/{uuid4()}")
    return f"The mail server took a mail to {to}: {result.provider_message_id}."


async def _provider(provider: RunningEmail, to: str | None) -> str:
    mail = _mail(to or "nobody@example.com")
    key = f"test/{uuid4()}"
    delivery = EmailDelivery(
        message=mail, message_id=message_id(mail, key), idempotency_key=key, deadline=datetime.now(UTC) + LIMIT
    )
    if to is not None:
        result = await provider.send(delivery)
        return f"The provider took a mail to {to}: {result.provider_message_id}."
    if provider.can_find:
        await provider.find(delivery)  # one that was never sent, so that the answer is none
        return "The provider can be used. Nothing was sent."
    return "The config is valid, and the provider can be made of it. Name an address in `to` to send a mail."


def _mail(to: str) -> EmailMessage:
    return EmailMessage(
        to=[EmailAddress(address=to)],
        subject="A test of Latchflow",
        text_body="An admin of Latchflow tries out how mails are sent. There is nothing to do.\n",
    )

"""A process that invites somebody and is killed on the way: ``… DATABASE_URL KEY INVOCATION PORT POINT``."""

import asyncio
import os
import signal
import sys
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import replace
from datetime import datetime
from typing import NoReturn, TypeVar
from uuid import UUID

from latchflow.crypto import Keyring
from latchflow.sdk import EmailMessage, SendResult
from latchflow.services.egress import EgressGuard
from latchflow.services.email import SmtpEmail
from latchflow.services.handover import Handover
from latchflow.services.mail import Mail
from latchflow.services.users import Users
from latchflow.settings import Settings
from latchflow.store.database import Database
from tests.support.attempts import Attempts
from tests.support.services import NO_SERVICES

MailT = TypeVar("MailT", bound=Mail)


class NoProviders:
    """A deployment without email providers."""

    def active_email(self) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def email_named(self, name: str) -> AbstractAsyncContextManager[None]:
        return nullcontext()


def mail_to(port: int, kind: type[MailT]) -> MailT:
    """Mail by a server of the test's."""
    smtp = SmtpEmail(f"smtp://127.0.0.1:{port}", "latchflow@example.org", EgressGuard("127.0.0.1"))

    async def current() -> SmtpEmail:
        return smtp

    return kind(NoProviders(), current)


def _die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


class Killed(Mail):
    """Mail whose process dies at a point."""

    point = ""

    async def send(self, message: EmailMessage, *, effect: Handover, deadline: datetime) -> SendResult:
        if self.point == "before it is handed over":
            _die()
        if self.point == "before it is sent":
            await effect.via("smtp")
            _die()
        await super().send(message, effect=effect, deadline=deadline)
        _die()


async def main(url: str, key: str, invocation: str, port: str, point: str) -> None:
    settings = Settings.model_validate({"DATABASE_URL": url, "ENCRYPTION_KEY": key})
    mail = mail_to(int(port), Killed)
    mail.point = point
    async with Database.open(settings) as database:
        users = Users(database, mail, public_url="https://latch.example")
        attempts = Attempts(database=database, keyring=Keyring.from_setting(key), invocation_id=UUID(invocation))
        attempt = await attempts.begin(replace(NO_SERVICES, users=users), ["users:write"])
        await attempt.services.users.invite("ada@example.org")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

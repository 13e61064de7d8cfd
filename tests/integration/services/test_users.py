"""Plugins inviting people: through the guard, the ledger in Postgres and a real mail server, with kills on the way."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from latchflow.runtime.guard import Backends
from latchflow.sdk import EmailDelivery, EmailMessage, SendResult, ServiceError, User
from latchflow.services.mail import Mail
from latchflow.services.users import NewUser, Users
from latchflow.settings import Settings
from latchflow.store.database import Database
from latchflow.telemetry import without_hidden
from tests.integration.services.inviting_process import mail_to
from tests.support.attempts import Attempts
from tests.support.execution import FAKE_KEY, Deployment, Step
from tests.support.mailbox import Mailbox, running_mailbox
from tests.support.services import NO_SERVICES

_SCOPES = ("users:write", "users:read")
_ADA = "ada@example.org"


@pytest.fixture
async def mailbox() -> AsyncIterator[Mailbox]:
    async with running_mailbox() as mailbox:
        yield mailbox


@pytest.fixture
async def attempts(deployment: Deployment) -> Attempts:
    return await new_invocation(deployment)


async def new_invocation(deployment: Deployment) -> Attempts:
    event_id = await deployment.open_event([Step(action="do", name="one")])
    (row,) = (await deployment.steps(event_id)).values()
    return Attempts(database=deployment.database, keyring=deployment.keyring, invocation_id=row["id"])


class Finding(Mail):
    """Mail by a provider that can tell what became of a mail."""

    found: SendResult | None = None
    asked: EmailMessage | None = None

    async def find(
        self, message: EmailMessage, *, idempotency_key: str, via: str | None, deadline: datetime
    ) -> SendResult | None:
        self.asked = message
        return self.found


def backends(deployment: Deployment, mail: Mail, *, public_url: str = "https://latch.example") -> Backends:
    return replace(NO_SERVICES, users=Users(deployment.database, mail, public_url=public_url))


async def invite(attempts: Attempts, using: Backends, email: str = _ADA, **options: Any) -> User:
    attempt = await attempts.begin(using, _SCOPES, **options)
    return await attempt.services.users.invite(email)


async def states(deployment: Deployment) -> list[str]:
    rows = await deployment.rows("SELECT mail FROM invitations ORDER BY created_at")
    return [row["mail"] for row in rows]


async def test_a_plugin_invites_and_its_next_attempt_sends_no_second_mail(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    using = backends(deployment, mail_to(mailbox.port, Mail))

    user = await invite(attempts, using)

    assert (user.email, user.role, user.status) == (_ADA, "EXECUTOR", "INVITED")
    assert await invite(attempts, using) == user
    assert len(mailbox.messages) == 1
    assert await states(deployment) == ["sent"]
    (entry,) = await deployment.rows("SELECT actor FROM audit_entries WHERE detail->>'object' = 'user'")
    assert entry["actor"] == "acme-testing/act"


async def test_another_invitation_of_the_same_address_sends_no_second_mail(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    using = backends(deployment, mail_to(mailbox.port, Mail))
    user = await invite(attempts, using)

    assert await invite(await new_invocation(deployment), using, _ADA.upper()) == user
    await deployment.rows("UPDATE users SET status = 'DISABLED'")
    assert (await invite(await new_invocation(deployment), using)).status == "DISABLED"
    assert len(mailbox.messages) == 1


async def test_many_at_once_make_one_user_and_send_one_mail(deployment: Deployment, mailbox: Mailbox) -> None:
    using = backends(deployment, mail_to(mailbox.port, Mail))
    invocations = [await new_invocation(deployment) for _ in range(6)]

    first = await asyncio.gather(*(invite(each, using) for each in invocations), return_exceptions=True)
    users = [await invite(each, using) for each in invocations]

    assert {error.kind for error in first if isinstance(error, ServiceError)} <= {"retryable"}
    assert len({user.id for user in users}) == 1
    assert len(mailbox.messages) == 1


async def test_an_invitation_that_is_only_being_sent_is_not_taken_for_sent(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    using = backends(deployment, mail_to(mailbox.port, Mail))
    await invite(attempts, using)
    await deployment.rows("UPDATE invitations SET mail = 'sending'")
    other = await new_invocation(deployment)

    with pytest.raises(ServiceError) as caught:
        await invite(other, using)
    await deployment.rows("UPDATE invitations SET created_at = now() - interval '3 minutes'")
    await invite(other, using)

    assert caught.value.kind == "retryable"
    assert len(mailbox.messages) == 1


async def test_an_invitation_that_has_expired_is_replaced(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    using = backends(deployment, mail_to(mailbox.port, Mail))
    await invite(attempts, using)
    await deployment.rows("UPDATE invitations SET expires_at = now()")

    await invite(await new_invocation(deployment), using)

    assert len(mailbox.messages) == 2


async def test_a_refused_mail_is_sent_by_the_next_attempt_with_a_link_that_works(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    using = backends(deployment, mail_to(mailbox.port, Mail))
    mailbox.answer = "451 busy"
    with pytest.raises(ServiceError) as caught:
        await invite(attempts, using)
    assert caught.value.kind == "retryable"

    mailbox.answer = "250 taken"
    await invite(attempts, using)

    assert await states(deployment) == ["failed", "sent"]
    rows = await deployment.rows("SELECT revoked_at IS NULL AS is_open FROM invitations ORDER BY created_at")
    assert [row["is_open"] for row in rows] == [False, True]


async def test_a_mail_that_was_refused_for_good_does_not_keep_others_from_inviting(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    using = backends(deployment, mail_to(mailbox.port, Mail))
    mailbox.answer = "550 never"
    with pytest.raises(ServiceError):
        await invite(attempts, using)

    mailbox.answer = "250 taken"
    await invite(await new_invocation(deployment), using)

    assert await states(deployment) == ["failed", "sent"]


async def test_a_connection_that_is_cut_after_the_mail_is_no_reason_to_send_another(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    using = backends(deployment, mail_to(mailbox.port, Mail))
    mailbox.answer = None
    for _ in range(2):
        with pytest.raises(ServiceError) as caught:
            await invite(attempts, using)
        assert caught.value.kind == "outcome_unknown"
    await invite(await new_invocation(deployment), using)

    assert len(mailbox.messages) == 1
    assert await states(deployment) == ["unknown"]
    mailbox.answer = "250 taken"
    await invite(attempts, using, resends_unknown=True)
    assert await states(deployment) == ["unknown", "sent"]


@pytest.mark.parametrize("email", ["ada", "a@b.c\r\nBcc: x@y.z", "a@b.c\0", "a@b.c,d@e.f", "", " a@b.c", 5, None])
async def test_what_is_no_address_is_refused(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox, email: Any
) -> None:
    with pytest.raises(ServiceError) as caught:
        await invite(attempts, backends(deployment, mail_to(mailbox.port, Mail)), email)
    assert caught.value.kind == "validation"
    assert await deployment.rows("SELECT id FROM users") == []


async def test_without_a_public_url_the_error_says_what_to_set(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    with pytest.raises(ServiceError, match="LATCHFLOW_PUBLIC_URL") as caught:
        await invite(attempts, backends(deployment, mail_to(mailbox.port, Mail), public_url=""))
    assert caught.value.kind == "fatal"
    assert await deployment.rows("SELECT id FROM users") == []


async def test_users_are_read_and_listed(deployment: Deployment, attempts: Attempts, mailbox: Mailbox) -> None:
    using = backends(deployment, mail_to(mailbox.port, Mail))
    users = Users(deployment.database, mail_to(mailbox.port, Mail), public_url="https://latch.example")
    for email in ("c@example.org", "A@example.org", "b@example.org"):
        await users.create(NewUser(email=email, role="EXECUTOR"), actor="admin")
    service = (await attempts.begin(using, _SCOPES)).services.users

    first = await service.list(limit=2)
    second = await service.list(limit=2, cursor=first.next_cursor)

    assert [user.email for user in (*first.items, *second.items)] == ["A@example.org", "b@example.org", "c@example.org"]
    assert second.next_cursor is None
    assert await service.get(str(first.items[0].id)) == first.items[0]
    for cursor, limit in (("%%", 5), ("", 5), (None, 0), (None, 201), (None, True), ("AA==", 5)):
        with pytest.raises(ServiceError, match=r"cursor|limit"):
            await service.list(limit=limit, cursor=cursor)


async def killed(deployment: Deployment, attempts: Attempts, mailbox: Mailbox, point: str) -> None:
    """Let another process make an attempt and be killed at a point of it."""
    arguments = [deployment.urls.url, FAKE_KEY, str(attempts.invocation_id), str(mailbox.port), point]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.integration.services.inviting_process", *arguments
    )
    assert await process.wait() == -9


async def test_a_kill_before_the_mail_was_handed_over_lets_the_next_attempt_send_it(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    await killed(deployment, attempts, mailbox, "before it is handed over")
    assert len(await deployment.rows("SELECT id FROM users")) == 1

    user = await invite(attempts, backends(deployment, mail_to(mailbox.port, Mail)))

    assert user.status == "INVITED"
    assert len(mailbox.messages) == 1
    assert await states(deployment) == ["sending", "sent"]


@pytest.mark.parametrize(("point", "mails"), [("before it is sent", 0), ("after it was sent", 1)])
async def test_a_kill_around_the_sending_is_unknown_and_no_second_mail(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox, point: str, mails: int
) -> None:
    await killed(deployment, attempts, mailbox, point)

    with pytest.raises(ServiceError) as caught:
        await invite(attempts, backends(deployment, mail_to(mailbox.port, Mail)))

    assert caught.value.kind == "outcome_unknown"
    assert len(mailbox.messages) == mails


@pytest.mark.parametrize(
    ("point", "found", "mails"),
    [
        ("before it is sent", None, 1),
        ("after it was sent", SendResult(provider_message_id="<1@x>", accepted_recipients=(_ADA,)), 1),
    ],
)
async def test_a_provider_that_can_be_asked_settles_what_a_kill_left_open(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox, point: str, found: SendResult | None, mails: int
) -> None:
    await killed(deployment, attempts, mailbox, point)
    mail = mail_to(mailbox.port, Finding)
    mail.found = found
    if found is None:
        # The killed one might only be frozen, and send it yet.
        with pytest.raises(ServiceError) as caught:
            await invite(attempts, backends(deployment, mail))
        assert caught.value.is_retryable
        assert caught.value.retry_after is not None
        assert mailbox.messages == []
        await deployment.rows("UPDATE effects SET live_until = now() - interval '1 minute'")

    user = await invite(attempts, backends(deployment, mail))

    assert user.status == "INVITED"
    assert len(mailbox.messages) == mails
    assert (await states(deployment))[-1] == "sent"
    assert mail.asked is not None
    assert [entry.address for entry in mail.asked.to] == [_ADA]


async def test_what_a_kill_left_open_stays_open_while_the_database_cannot_be_asked(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    await killed(deployment, attempts, mailbox, "after it was sent")
    mail = mail_to(mailbox.port, Finding)
    mail.found = SendResult(provider_message_id="<1@x>", accepted_recipients=(_ADA,))
    settings = Settings.model_validate({"DATABASE_URL": deployment.urls.url, "ENCRYPTION_KEY": FAKE_KEY})
    async with Database.open(settings) as away:
        pass
    users = Users(away, mail, public_url="https://latch.example")
    with pytest.raises(ServiceError) as caught:
        await invite(attempts, replace(NO_SERVICES, users=users))

    assert caught.value.kind == "retryable"
    (effect,) = await deployment.rows("SELECT state FROM effects")
    assert effect["state"] == "intended"
    assert (await invite(attempts, backends(deployment, mail))).status == "INVITED"
    assert len(mailbox.messages) == 1


class _Quoting:
    """A provider that quotes the mail in its refusal, as any server may."""

    name, can_find = "acme/post", False

    async def send(self, delivery: EmailDelivery) -> SendResult:
        raise ServiceError("retryable", f"refused: {delivery.message.text_body}")

    async def find(self, delivery: EmailDelivery) -> SendResult | None:
        raise AssertionError


async def test_a_token_that_a_provider_quotes_is_in_no_log(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    mail = mail_to(mailbox.port, Mail)
    mail._providers.active_email = lambda: nullcontext(_Quoting())  # type: ignore[method-assign]
    with capture_logs(processors=[without_hidden]) as logs:
        await invite(attempts, backends(deployment, mail))

    token = mailbox.token()
    assert "refused: You are invited" in str(logs)
    assert token not in str(logs)


async def test_a_frozen_attempt_that_wakes_after_its_successor_hands_nothing_over(
    deployment: Deployment, attempts: Attempts, mailbox: Mailbox
) -> None:
    frozen, wakes = asyncio.Event(), asyncio.Event()

    class Freezing(Mail):
        async def send(self, message: EmailMessage, **arguments: Any) -> SendResult:
            frozen.set()
            await wakes.wait()
            return await super().send(message, **arguments)

    slow = asyncio.create_task(invite(attempts, backends(deployment, mail_to(mailbox.port, Freezing))))
    await frozen.wait()
    user = await invite(attempts, backends(deployment, mail_to(mailbox.port, Mail)))
    wakes.set()

    with pytest.raises(ServiceError) as caught:
        await slow
    assert caught.value.kind == "denied"
    assert len(mailbox.messages) == 1
    (effect,) = await deployment.rows("SELECT state, attempt FROM effects")
    assert effect == {"state": "done", "attempt": 2}
    assert await invite(attempts, backends(deployment, mail_to(mailbox.port, Mail))) == user

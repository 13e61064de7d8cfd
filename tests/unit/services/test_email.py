import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from latchflow.errors import ConfigurationError
from latchflow.sdk import MAX_ATTACHMENT_BYTES, EmailAddress, EmailAttachment, EmailMessage, ServiceError
from latchflow.services.egress import EgressGuard
from latchflow.services.email import SmtpEmail
from latchflow.services.email_message import message_id
from tests.support.mail_server import Mailbox, mail_server
from tests.unit.services.servers import tls_pair, unused_port

GUARD = EgressGuard("127.0.0.1,localhost")
ADA = EmailAddress(address="ada@example.com", display_name="Ada, Countess")


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
async def port(mailbox: Mailbox) -> AsyncIterator[int]:
    async with mail_server(mailbox, auth_require_tls=False) as port:
        yield port


def service(port: int, default_sender: str = "Latchflow <bot@example.org>", login: str = "") -> SmtpEmail:
    return SmtpEmail(f"smtp://{login}127.0.0.1:{port}", default_sender, GUARD, timeout_seconds=5)


async def failure(smtp: SmtpEmail, message: EmailMessage) -> ServiceError:
    with pytest.raises(ServiceError) as caught:
        await smtp.send(message, idempotency_key="k")
    return caught.value


async def test_a_mail_arrives_with_both_bodies_and_without_its_blind_copies(port: int, mailbox: Mailbox) -> None:
    result = await service(port).send(
        EmailMessage(
            to=[ADA],
            cc=[EmailAddress(address="cc@example.com")],
            bcc=[EmailAddress(address="bcc@example.com"), ADA],
            reply_to=EmailAddress(address="reply@example.com"),
            subject="Grüße",
            text_body="plain ü\n.\nafter the dot",
            html_body="<p>rich ü</p>",
            headers={"X-Run": "7"},
        ),
        idempotency_key="k1",
    )

    message = mailbox.last_message()
    parts = {part.get_content_type(): part.get_content() for part in message.iter_parts()}
    assert message.get_content_type() == "multipart/alternative"
    assert parts["text/plain"].splitlines() == ["plain ü", ".", "after the dot"]
    assert parts["text/html"].strip() == "<p>rich ü</p>"
    assert (message["Subject"], message["X-Run"], message["Reply-To"]) == ("Grüße", "7", "reply@example.com")
    assert (message["From"], message["To"]) == ("Latchflow <bot@example.org>", '"Ada, Countess" <ada@example.com>')
    assert message["Date"] is not None
    assert b"bcc@example.com" not in mailbox.envelopes[0].content
    assert mailbox.envelopes[0].rcpt_tos == ["ada@example.com", "cc@example.com", "bcc@example.com"]
    assert result.provider_message_id == message["Message-ID"]
    assert result.accepted_recipients == ("ada@example.com", "cc@example.com", "bcc@example.com")
    assert result.rejected_recipients == ()


async def test_the_message_id_follows_from_the_idempotency_key(port: int) -> None:
    smtp = service(port)
    mail = EmailMessage(to=[ADA], subject="s", text_body="b")

    ids = [(await smtp.send(mail, idempotency_key=key)).provider_message_id for key in ("a", "a", "b")]

    own = await smtp.send(replace(mail, sender=EmailAddress(address="me@example.net")), idempotency_key="a")

    assert ids[0] == ids[1] != ids[2]
    assert own.provider_message_id.endswith("@example.net>")


def test_the_message_id_follows_from_nothing_that_an_operator_may_change() -> None:
    mail = EmailMessage(to=[ADA], subject="s")

    assert message_id(mail, "a") == message_id(replace(mail, subject="another"), "a")
    assert message_id(mail, "a").endswith("@latchflow.internal>")


async def test_user_and_password_are_percent_decoded(port: int, mailbox: Mailbox) -> None:
    await service(port, login="me%40here:p%40ss%2Fword@").send(EmailMessage(to=[ADA], subject="s"), idempotency_key="k")

    assert mailbox.credentials == [("me@here", "p@ss/word")]


async def test_wrong_credentials_are_fatal_and_stay_out_of_the_message(port: int) -> None:
    error = await failure(service(port, login="me:wrong-password@"), EmailMessage(to=[ADA], subject="s"))

    assert error.kind == "fatal"
    assert "wrong-password" not in str(error)


async def test_refused_recipients_are_named_while_others_are_served(port: int, mailbox: Mailbox) -> None:
    result = await service(port).send(
        EmailMessage(to=[ADA, EmailAddress(address="550@refused.example")], subject="s"), idempotency_key="k"
    )

    assert result.accepted_recipients == ("ada@example.com",)
    assert result.rejected_recipients == ("550@refused.example",)
    assert len(mailbox.envelopes) == 1


@pytest.mark.parametrize(("codes", "kind"), [(["550"], "fatal"), (["450"], "retryable"), (["550", "451"], "retryable")])
async def test_when_all_recipients_are_refused_the_codes_decide(port: int, codes: list[str], kind: str) -> None:
    to = [EmailAddress(address=f"{code}@refused.example") for code in codes]

    error = await failure(service(port), EmailMessage(to=to, subject="s"))

    assert error.kind == kind


@pytest.mark.parametrize(
    "fault",
    [
        {"to": []},
        {"to": [EmailAddress(address="no-at-sign")]},
        {"to": [EmailAddress(address="a@b.c\r\nBcc: x@y.z")]},
        {"to": [EmailAddress(address="a@b.c> SIZE=1")]},
        {"to": [EmailAddress(address="ü@b.c")]},
        {"to": [EmailAddress(address="a@b.c", display_name="x\nBcc: y@z.a")]},
        {"cc": [EmailAddress(address="a b@c.d")]},
        {"sender": EmailAddress(address="nobody")},
        {"reply_to": EmailAddress(address="a@b.c\0")},
        {"subject": "s\r\nBcc: x@y.z"},
        {"subject": "\ud800"},
        {"text_body": "\ud800"},
        {"headers": {"X-A": "a\nBcc: x@y.z"}},
        {"headers": {"X-A\r\n": "a"}},
        {"headers": {"Bcc": "x@y.z"}},
        {"headers": {"Content-Type": "text/evil"}},
    ],
)
async def test_a_malformed_mail_is_refused_before_it_is_sent(
    port: int, mailbox: Mailbox, fault: dict[str, Any]
) -> None:
    error = await failure(service(port), EmailMessage(**({"to": [ADA], "subject": "s"} | fault)))

    assert error.kind == "validation"
    assert mailbox.envelopes == []


async def test_a_mail_without_any_sender_names_the_setting(port: int) -> None:
    error = await failure(service(port, default_sender=""), EmailMessage(to=[ADA], subject="s"))

    assert error.kind == "validation"
    assert "SMTP_FROM" in str(error)


async def test_without_a_server_the_setting_is_named() -> None:
    error = await failure(SmtpEmail("", "", EgressGuard("")), EmailMessage(to=[ADA], subject="s"))

    assert error.kind == "fatal"
    assert "SMTP_URL" in str(error)


async def test_the_server_is_guarded_too(port: int) -> None:
    smtp = SmtpEmail(f"smtp://127.0.0.1:{port}", "a@b.c", EgressGuard(""))

    error = await failure(smtp, EmailMessage(to=[ADA], subject="s"))

    assert error.kind == "denied"


async def test_a_refused_connection_may_be_tried_again() -> None:
    error = await failure(service(unused_port()), EmailMessage(to=[ADA], subject="s"))

    assert error.kind == "retryable"


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"": "421 busy"}, "retryable"),
        ({"": "554 go away"}, "fatal"),
        ({"": None}, "retryable"),
        ({"MAIL": "451 later"}, "retryable"),
        ({"MAIL": "553 not you"}, "fatal"),
        ({"MAIL": None}, "retryable"),
        ({"RCPT": None}, "retryable"),
        ({"DATA": "451 later"}, "retryable"),
        ({".": "452 full"}, "retryable"),
        ({".": "554 spam"}, "fatal"),
        ({".": None}, "outcome_unknown"),
        ({".": "never"}, "outcome_unknown"),
        ({"QUIT": None}, "sent"),
        ({"QUIT": "500 what"}, "sent"),
    ],
)
async def test_the_phase_in_which_it_fails_decides(answers: dict[str, str | None], kind: str) -> None:
    async with scripted_server(answers) as port:
        smtp = SmtpEmail(f"smtp://127.0.0.1:{port}", "a@b.c", GUARD, timeout_seconds=0.5)
        outcome = (
            await asyncio.gather(
                smtp.send(EmailMessage(to=[ADA], subject="s"), idempotency_key="k"), return_exceptions=True
            )
        )[0]

    assert (outcome.kind if isinstance(outcome, ServiceError) else "sent") == kind


async def test_a_server_that_never_says_goodbye_holds_nothing_up() -> None:
    async with asyncio.timeout(10), scripted_server({"QUIT": "never"}) as port:
        smtp = SmtpEmail(f"smtp://127.0.0.1:{port}", "a@b.c", GUARD)
        result = await smtp.send(EmailMessage(to=[ADA], subject="s"), idempotency_key="k")

    assert result.accepted_recipients == ("ada@example.com",)


@pytest.mark.parametrize("scheme", ["smtps", "smtp+starttls"])
async def test_tls_verifies_the_name_of_the_server(scheme: str, tmp_path: Path) -> None:
    server_side, client_side = tls_pair(tmp_path, "localhost")
    mailbox = Mailbox()
    mail = EmailMessage(to=[ADA], subject="s")
    tls: dict[str, Any] = (
        {"tls": server_side} if scheme == "smtps" else {"tls_context": server_side, "require_starttls": True}
    )
    async with mail_server(mailbox, **tls) as port:
        smtp = SmtpEmail(f"{scheme}://localhost:{port}", "a@b.c", GUARD, ssl_context=client_side)
        await smtp.send(mail, idempotency_key="k")
        wrong = SmtpEmail(f"{scheme}://127.0.0.1:{port}", "a@b.c", GUARD, ssl_context=client_side)
        error = await failure(wrong, mail)

    assert len(mailbox.envelopes) == 1
    assert error.kind == "retryable"
    assert "certificate" in str(error).lower()


@pytest.mark.parametrize(
    "url", ["http://h", "smtp://", "smtp://user:hunter2@h:port", "smtp://h/path", "smtp:h", "smtp://[::1"]
)
def test_a_malformed_url_names_the_setting_and_never_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError, match="SMTP_URL") as caught:
        SmtpEmail(url, "", EgressGuard(""))

    assert "hunter2" not in caught.value.message


def test_a_malformed_default_sender_names_the_setting() -> None:
    with pytest.raises(ConfigurationError, match="SMTP_FROM"):
        SmtpEmail("", "nobody", EgressGuard(""))


@contextlib.asynccontextmanager
async def scripted_server(answers: dict[str, str | None]) -> AsyncIterator[int]:
    """A server that takes everything but what `answers` says, by command; "" is the greeting, "." the end of the data.

    None cuts the connection instead of answering, ``never`` answers nothing and waits.
    """
    usual: dict[str, str | None] = {"": "220 hi", "EHLO": "250 hi", "DATA": "354 go", "QUIT": "221 bye"}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def answer(command: str) -> bool:
            text = (usual | answers).get(command, "250 ok")
            if text == "never":
                await reader.read()  # until the client goes away
                return False
            if text is None:
                return False
            writer.write(f"{text}\r\n".encode())
            await writer.drain()
            return True

        try:
            is_open = await answer("")
            while is_open and (line := await reader.readline()):
                command = line.decode()[:4].strip().upper()
                is_open = await answer(command)
                if command == "DATA" and is_open and "DATA" not in answers:
                    await reader.readuntil(b"\r\n.\r\n")
                    is_open = await answer(".")
        except OSError:
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_attachments_arrive_with_their_names_and_types(port: int, mailbox: Mailbox) -> None:
    files = [
        EmailAttachment(name="Grüße.txt", content=b"hello\n", content_type="text/plain"),
        EmailAttachment(name="data.bin", content=bytes(range(256))),
    ]
    await service(port).send(
        EmailMessage(to=[ADA], subject="s", text_body="b", html_body="<p>b</p>", attachments=files), idempotency_key="k"
    )

    arrived = list(mailbox.last_message().iter_attachments())
    assert [(part.get_filename(), part.get_content_type()) for part in arrived] == [
        ("Grüße.txt", "text/plain"),
        ("data.bin", "application/octet-stream"),
    ]
    assert [part.get_payload(decode=True) for part in arrived] == [b"hello\n", bytes(range(256))]


@pytest.mark.parametrize(
    "attachment",
    [
        EmailAttachment(name="a\r\nBcc: x@y.z", content=b""),
        EmailAttachment(name="a\0", content=b""),
        EmailAttachment(name="../a", content=b""),
        EmailAttachment(name=" ", content=b""),
        EmailAttachment(name="x" * 256, content=b""),
        EmailAttachment(name="a", content=b"", content_type="text"),
        EmailAttachment(name="a", content=b"", content_type="text/plain\r\nBcc: x@y.z"),
        EmailAttachment(name="a", content=b"", content_type="message/rfc822"),
        EmailAttachment(name="a", content=bytes(MAX_ATTACHMENT_BYTES + 1)),
    ],
    ids=lambda attachment: attachment.name[:10],
)
async def test_an_attachment_that_cannot_be_sent_is_refused_before_anything_is(
    port: int, mailbox: Mailbox, attachment: EmailAttachment
) -> None:
    error = await failure(service(port), EmailMessage(to=[ADA], subject="s", attachments=[attachment]))

    assert error.kind == "validation"
    assert mailbox.envelopes == []


async def test_a_login_goes_over_starttls(tmp_path: Path) -> None:
    server_side, client_side = tls_pair(tmp_path, "localhost")
    mailbox = Mailbox()
    options: dict[str, Any] = {"tls_context": server_side, "require_starttls": True, "auth_required": True}
    async with mail_server(mailbox, **options) as port:
        url = f"smtp+starttls://me:p%40ss%2Fword@localhost:{port}"
        smtp = SmtpEmail(url, "a@b.c", GUARD, ssl_context=client_side)
        await smtp.check()
        await smtp.send(EmailMessage(to=[ADA], subject="s"), idempotency_key="k")
        anonymous = SmtpEmail(f"smtp+starttls://localhost:{port}", "a@b.c", GUARD, ssl_context=client_side)
        error = await failure(anonymous, EmailMessage(to=[ADA], subject="s"))

    assert mailbox.credentials == [("me", "p@ss/word")] * 2
    assert len(mailbox.envelopes) == 1
    assert error.kind == "fatal"


async def test_no_login_is_sent_to_a_server_that_cannot_encrypt(port: int, mailbox: Mailbox) -> None:
    smtp = SmtpEmail(f"smtp+starttls://me:p%40ss%2Fword@127.0.0.1:{port}", "a@b.c", GUARD)

    error = await failure(smtp, EmailMessage(to=[ADA], subject="s"))

    assert error.kind == "fatal"
    assert mailbox.credentials == []


async def test_checking_a_server_sends_nothing(port: int, mailbox: Mailbox) -> None:
    await service(port).check()
    with pytest.raises(ServiceError) as caught:
        await service(port, login="me:wrong-password@").check()

    assert caught.value.kind == "fatal"
    assert mailbox.envelopes == []


async def test_a_password_that_the_server_quotes_is_masked() -> None:
    async with scripted_server({"EHLO": "250-hi\r\n250 AUTH PLAIN", "AUTH": "535 not hunter2hunter2"}) as port:
        smtp = SmtpEmail(f"smtp://me:hunter2hunter2@127.0.0.1:{port}", "a@b.c", GUARD, timeout_seconds=2)

        error = await failure(smtp, EmailMessage(to=[ADA], subject="s"))

    assert "hunter2" not in str(error)
    assert "535" in str(error)


async def test_a_server_that_says_nothing_is_given_up_before_the_attempt_ends() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ServiceError) as caught:
            await SmtpEmail(f"smtp://127.0.0.1:{port}", "a@b.c", GUARD).send(
                EmailMessage(to=[ADA], subject="s"),
                idempotency_key="k",
                deadline=datetime.now(UTC) + timedelta(seconds=0.3),
            )

    assert caught.value.kind == "retryable"

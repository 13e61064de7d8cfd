"""The Gmail provider through the real runtime, against a server in another process that speaks as Google does."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest

from latchflow.runtime.providers.host_services import HostServices
from latchflow.runtime.providers.system_config import NewValue
from latchflow.sdk import EmailAddress, EmailAttachment, EmailMessage, SendResult, ServiceError
from plugins.gmail import plugin, provider
from tests.support.execution import Deployment
from tests.support.gmail_server import SENDER, GmailServer
from tests.support.hosts import add_providers, running_host
from tests.support.invocations import Attempt, Invocation
from tests.support.mail_server import Mailbox, mail_server
from tests.support.registries import registry_of
from tests.support.services import NO_SERVICES

KEY = "PLUGIN_ACME_TESTING_PROVIDER_GMAIL"
NAME = "acme-testing/gmail"
MAIL = EmailMessage(
    to=[EmailAddress(address="ada@example.com", display_name="Ada")],
    bcc=[EmailAddress(address="blind@example.com")],
    subject="Grüße",
    text_body="hello",
)


@dataclass
class Effect:
    """Who a mail was handed to."""

    key: str = "invocation/email.send/1"
    providers: tuple[str, ...] = ()

    async def via(self, provider: str) -> None:
        self.providers += (provider,)


@pytest.fixture
def gmail() -> Iterator[GmailServer]:
    running = GmailServer()
    yield running
    running.close()


@pytest.fixture
async def host(
    deployment: Deployment, gmail: GmailServer, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[HostServices]:
    monkeypatch.setattr(provider, "_SEARCHES", (0.0, 0.05))
    registry = registry_of(plugin)
    await add_providers(deployment, registry)
    async with running_host(deployment, registry, HTTP_EGRESS_ALLOW=f"127.0.0.1:{gmail.port}") as services:
        await services.config.put({KEY: NewValue(value=gmail.config())}, actor="test")
        yield services
    registry.close()


async def send(host: HostServices, effect: Effect, mail: EmailMessage = MAIL) -> SendResult | ServiceError:
    try:
        return await host.mail.send(mail, effect=effect, deadline=datetime.now(UTC) + timedelta(seconds=20))
    except ServiceError as error:
        return error


async def test_a_mail_is_sent_as_the_configured_mailbox(host: HostServices, gmail: GmailServer) -> None:
    effect = Effect()
    files = [EmailAttachment(name="a.pdf", content=b"%PDF", content_type="application/pdf")]

    result = await send(host, effect, replace(MAIL, html_body="<p>hello</p>", attachments=files))

    (arrived,) = gmail.messages()
    assert isinstance(result, SendResult)
    assert result.provider_message_id == arrived["id"]
    assert result.accepted_recipients == ("ada@example.com", "blind@example.com")
    assert effect.providers == (NAME,)
    assert (arrived["from"], arrived["to"], arrived["bcc"]) == (SENDER, "Ada <ada@example.com>", "blind@example.com")
    assert arrived["subject"] == "Grüße"
    assert ["application/pdf", "a.pdf"] in arrived["parts"]
    assert {"text/plain", "text/html"} <= {kind for kind, _ in arrived["parts"]}


async def test_a_large_mail_goes_to_the_address_for_uploads(host: HostServices, gmail: GmailServer) -> None:
    files = [EmailAttachment(name="big.bin", content=bytes(4 * 1024 * 1024))]

    result = await send(host, Effect(), replace(MAIL, attachments=files))

    assert isinstance(result, SendResult)
    assert gmail.requests()[-1]["path"].startswith("/upload/")


async def test_one_token_serves_many_mails(host: HostServices, gmail: GmailServer) -> None:
    for key in "abc":
        await send(host, Effect(key=key))

    assert gmail.paths() == ["token", "send", "send", "send"]
    assert len({message["messageId"] for message in gmail.messages()}) == 3


@pytest.mark.parametrize(
    ("answers", "kind", "taken"),
    [
        (["400"], "validation", 0),
        (["400-failedPrecondition"], "fatal", 0),
        (["401"], "sent", 1),
        (["401", "401"], "denied", 0),
        (["403-insufficientPermissions"], "denied", 0),
        (["403-rateLimitExceeded"], "rate_limited", 0),
        (["404"], "fatal", 0),
        (["429"], "rate_limited", 0),
        (["500"], "retryable", 0),
        (["503"], "retryable", 0),
        (["500-taken"], "sent", 1),
        (["cut"], "sent", 1),
        (["cut-before"], "retryable", 0),
    ],
)
async def test_what_an_answer_means(
    host: HostServices, gmail: GmailServer, answers: list[str], kind: str, taken: int
) -> None:
    gmail.script(send=answers)

    result = await send(host, Effect())

    assert (result.kind if isinstance(result, ServiceError) else "sent") == kind
    assert len(gmail.messages()) == taken


async def test_the_wait_that_gmail_asks_for_is_passed_on(host: HostServices, gmail: GmailServer) -> None:
    gmail.script(send=["429"])

    error = await send(host, Effect())

    assert isinstance(error, ServiceError)
    assert error.retry_after == timedelta(seconds=7)


async def test_a_token_that_was_refused_is_replaced_once(host: HostServices, gmail: GmailServer) -> None:
    gmail.script(send=["401", "401"])

    await send(host, Effect())

    assert gmail.paths() == ["token", "send", "token", "send"]
    tokens = [request["token"] for request in gmail.requests() if request["path"].endswith("send")]
    assert tokens[0] != tokens[1]


@pytest.mark.parametrize(("answers", "kind"), [(["400"], "denied"), (["500"] * 4, "retryable")])
async def test_without_a_token_nothing_is_sent(
    host: HostServices, gmail: GmailServer, answers: list[str], kind: str
) -> None:
    gmail.script(token=answers)

    error = await send(host, Effect())

    assert isinstance(error, ServiceError)
    assert error.kind == kind
    assert "refresh-token-of-tests" not in str(error)
    assert set(gmail.paths()) == {"token"}


async def test_an_address_that_is_not_open_is_not_reached(
    deployment: Deployment, gmail: GmailServer, host: HostServices
) -> None:
    registry = registry_of(plugin)
    async with running_host(deployment, registry) as guarded:
        error = await send(guarded, Effect())
    registry.close()

    assert isinstance(error, ServiceError)
    assert error.kind == "denied"
    assert gmail.requests() == []


@pytest.mark.parametrize(
    ("script", "by_smtp"),
    [
        ({"token": ["400"]}, True),
        ({"send": ["429"]}, True),
        ({"send": ["401", "401"]}, True),
        ({"send": ["400-failedPrecondition"]}, True),
        ({"send": ["400"]}, False),
        ({"send": ["cut"]}, False),
        ({"send": ["cut-before"]}, False),
        ({"send": ["503"]}, False),
        ({}, False),
    ],
)
async def test_smtp_stands_in_only_for_a_mail_that_was_not_accepted(
    host: HostServices, gmail: GmailServer, script: dict[str, list[str]], by_smtp: bool
) -> None:
    mailbox = Mailbox()
    effect = Effect()
    gmail.script(**script)
    async with mail_server(mailbox) as port:
        values = {
            "SMTP_URL": f"smtp://127.0.0.1:{port}",
            "SMTP_FROM": "bot@example.org",
            "HTTP_EGRESS_ALLOW": f"127.0.0.1:{port}",
        }
        await host.config.put({key: NewValue(value=value) for key, value in values.items()}, actor="test")
        await send(host, effect)

    assert effect.providers == ((NAME, "smtp") if by_smtp else (NAME,))
    assert len(mailbox.envelopes) == by_smtp
    assert len(mailbox.envelopes) + len(gmail.messages()) <= 1


async def attempt(host: HostServices, made: Attempt) -> SendResult | ServiceError:
    try:
        return await made.services(replace(NO_SERVICES, email=host.mail)).email.send(MAIL)
    except ServiceError as error:
        return error
    finally:
        await made.end("RETRYING")


async def test_a_mail_that_shows_up_late_is_found_by_the_next_attempt(
    deployment: Deployment, host: HostServices, gmail: GmailServer
) -> None:
    invocation = await Invocation.open(deployment)
    gmail.script(send=["cut"], search=["not-yet", "not-yet"])

    unsettled = await attempt(host, await invocation.attempt())
    (record,) = await invocation.effects()
    found = await attempt(host, await invocation.attempt())

    assert isinstance(unsettled, ServiceError)
    assert unsettled.is_retryable
    assert (record["state"], record["via"]) == ("intended", NAME)
    assert isinstance(found, SendResult)
    assert len(gmail.messages()) == 1
    assert [effect["state"] for effect in await invocation.effects()] == ["done"]


async def test_a_mail_that_was_not_taken_is_sent_by_the_next_attempt(
    deployment: Deployment, host: HostServices, gmail: GmailServer
) -> None:
    invocation = await Invocation.open(deployment)
    gmail.script(send=["cut-before"])

    unsettled = await attempt(host, await invocation.attempt())
    sent = await attempt(host, await invocation.attempt())

    assert isinstance(unsettled, ServiceError)
    assert unsettled.is_retryable
    assert isinstance(sent, SendResult)
    assert len(gmail.messages()) == 1


async def test_a_mailbox_that_may_not_be_searched_leaves_the_outcome_unknown(
    deployment: Deployment, host: HostServices, gmail: GmailServer
) -> None:
    invocation = await Invocation.open(deployment)
    gmail.script(send=["cut"], search=["403", "403"])

    await attempt(host, await invocation.attempt())
    error = await attempt(host, await invocation.attempt())

    assert isinstance(error, ServiceError)
    assert error.kind == "outcome_unknown"
    assert len(gmail.messages()) == 1


async def test_a_changed_config_is_used_by_the_next_mail_of_every_process(
    deployment: Deployment, host: HostServices, gmail: GmailServer
) -> None:
    registry = registry_of(plugin)
    async with running_host(deployment, registry, HTTP_EGRESS_ALLOW=f"127.0.0.1:{gmail.port}") as other:
        await send(host, Effect(key="a"))
        await other.config.put({KEY: NewValue(value=gmail.config(sender="other@example.org"))}, actor="test")
        await send(host, Effect(key="b"))
        await send(other, Effect(key="c"))
    registry.close()

    assert [message["from"] for message in gmail.messages()] == [SENDER, "other@example.org", "other@example.org"]


async def test_what_the_config_lacks_is_read_from_the_environment_at_use(
    host: HostServices, gmail: GmailServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = gmail.config()
    del config["sender"]
    await host.config.put({KEY: NewValue(value=config)}, actor="test")
    without = await send(host, Effect(key="a"))
    monkeypatch.setenv("GMAIL_SENDER", "env@example.org")

    await send(host, Effect(key="b"))

    assert isinstance(without, ServiceError)
    assert [message["from"] for message in gmail.messages()] == ["env@example.org"]
    assert (await host.config.entry(KEY)).fields == dict.fromkeys(config, "database") | {"sender": "env"}

"""Effects outside in whole events: real Temporal and PostgreSQL, the built-in actions, receivers in other processes."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

import pytest

from latchflow.runtime.lifecycle.registry import Registry
from latchflow.runtime.providers.host_services import HostServices
from latchflow.runtime.providers.system_config import NewValue
from latchflow.sdk import EmailAddress, EmailMessage, SendResult
from latchflow.services.handover import Handover
from plugins.core import plugin as core
from plugins.gmail import plugin as gmail_plugin
from tests.support.execution import Deployment, Step
from tests.support.gmail_server import GmailServer
from tests.support.hosts import add_providers, running_host
from tests.support.invocations import Invocation
from tests.support.receiver import Receiver
from tests.support.registries import registry_of
from tests.support.services import NO_SERVICES
from tests.workflow.engine import QUICK, Engine

SCOPES = ("email:send", "storage:read", "users:write", "bundles:toggle", "pipelines:toggle")
MAIL = {"to": ["ada@example.com"], "subject": "hello", "textBody": "hello"}


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


@pytest.fixture(scope="module")
def gmail() -> Iterator[GmailServer]:
    running = GmailServer()
    yield running
    running.close()


@pytest.fixture
async def registry(deployment: Deployment) -> AsyncIterator[Registry]:
    actions = registry_of(core, scopes=SCOPES)
    providers = registry_of(gmail_plugin)
    await add_providers(deployment, providers)
    together = Registry.union([providers, actions])
    yield together
    actions.close()
    providers.close()


@pytest.fixture
async def host(
    deployment: Deployment, registry: Registry, engine: Engine, gmail: GmailServer
) -> AsyncIterator[HostServices]:
    async with running_host(deployment, registry, HTTP_EGRESS_ALLOW="127.0.0.1") as services:
        engine.backends = replace(engine.backends, email=services.mail, http=services.http)
        key = "PLUGIN_ACME_TESTING_PROVIDER_GMAIL"
        await services.config.put({key: NewValue(value=gmail.config())}, actor="test")
        yield services


async def run(engine: Engine, registry: Registry, step: Step) -> tuple[UUID, str]:
    async with engine.worker(registry=registry):
        event_id = await engine.fire([replace(step, retry_policy=QUICK)])
        return event_id, await engine.finish(event_id)


def request(receiver: Receiver, identifier: str, drop: str, **config: Any) -> Step:
    on_unknown = config.pop("on_unknown", "fail")
    config = {"method": "POST", "url": receiver.url(identifier, drop), "json": {"n": 1}, **config}
    return Step(action="http.request", name="call", config=config, on_unknown=on_unknown)


async def test_a_dropped_request_ends_with_an_unknown_outcome_and_is_not_repeated(
    engine: Engine, registry: Registry, host: HostServices, receiver: Receiver
) -> None:
    event_id, status = await run(engine, registry, request(receiver, "plain", "first"))

    (step,) = (await engine.deployment.steps(event_id)).values()
    assert status == "FAILED"
    assert (step["status"], step["error"]["type"]) == ("FAILED_PERMANENT", "outcome_unknown")
    assert step["attempt_number"] == 1
    assert receiver.requests()["plain"] == 1


@pytest.mark.parametrize(
    ("options", "effects"), [({"idempotencyHeader": "Idempotency-Key"}, 1), ({"on_unknown": "resend"}, 2)]
)
async def test_a_dropped_request_is_repeated_where_that_was_asked_for(
    engine: Engine,
    registry: Registry,
    host: HostServices,
    receiver: Receiver,
    options: dict[str, Any],
    effects: int,
) -> None:
    identifier = f"repeated-{effects}"
    event_id, status = await run(engine, registry, request(receiver, identifier, "first", **options))

    assert status == "SUCCEEDED"
    assert (await engine.deployment.output(event_id, "call"))["json"] == {"ok": True}
    assert receiver.requests()[identifier] == 2
    assert receiver.effects()[identifier] == effects


async def test_a_mail_goes_through_gmail_once_though_the_connection_was_cut(
    engine: Engine, registry: Registry, host: HostServices, gmail: GmailServer
) -> None:
    gmail.script(send=["cut"])
    before = len(gmail.messages())

    event_id, status = await run(engine, registry, Step(action="email.send", name="mail", config=MAIL))

    assert status == "SUCCEEDED"
    (sent,) = gmail.messages()[before:]
    assert (await engine.deployment.output(event_id, "mail"))["providerMessageId"] == sent["id"]
    audited = await engine.deployment.rows(
        "SELECT detail FROM audit_entries WHERE trigger_event_id = %s AND kind = 'service' ORDER BY seq", event_id
    )
    assert [entry["detail"]["outcome"] for entry in audited] == ["intended", "ok"]


async def test_a_mail_that_gmail_did_not_take_is_sent_by_the_next_attempt(
    engine: Engine, registry: Registry, host: HostServices, gmail: GmailServer
) -> None:
    gmail.script(send=["cut-before"])
    before = len(gmail.messages())

    event_id, status = await run(engine, registry, Step(action="email.send", name="mail", config=MAIL))

    assert status == "SUCCEEDED"
    assert len(gmail.messages()) == before + 1
    assert await engine.deployment.phases(event_id, "mail") == ["STARTED", "RETRYING", "STARTED", "SUCCEEDED"]


async def test_waiting_for_a_lost_attempt_that_may_still_send_uses_up_no_attempt(
    engine: Engine, registry: Registry, host: HostServices, gmail: GmailServer
) -> None:
    before = len(gmail.messages())
    once = {**QUICK, "max_attempts": 1}
    event_id = await engine.fire([Step(action="email.send", name="mail", config=MAIL, retry_policy=once)])
    (step,) = (await engine.deployment.steps(event_id)).values()
    lost = await Invocation(engine.deployment, step["id"]).attempt()
    with pytest.raises(OSError, match="frozen"):
        await lost.services(replace(NO_SERVICES, email=_Frozen())).email.send(
            EmailMessage(to=[EmailAddress(address="ada@example.com")], subject="hello", text_body="hello")
        )
    await engine.deployment.rows("UPDATE effects SET live_until = now() - interval '4 seconds'")

    async with engine.worker(registry=registry):
        status = await engine.finish(event_id)

    assert status == "SUCCEEDED"
    assert len(gmail.messages()) == before + 1
    phases = await engine.deployment.phases(event_id, "mail")
    assert phases == ["STARTED", "TIMED_OUT", "STARTED", "RETRYING", "STARTED", "SUCCEEDED"]


class _Frozen:
    """Stands still once it has said where the mail goes."""

    async def send(self, message: EmailMessage, *, effect: Handover, deadline: datetime) -> SendResult:
        await effect.via("acme-testing/gmail")
        raise OSError("frozen")

    async def find(
        self, message: EmailMessage, *, idempotency_key: str, via: str | None, deadline: datetime
    ) -> SendResult | None:
        raise AssertionError("it is not asked")

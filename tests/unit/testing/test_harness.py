from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from latchflow.errors import InvalidInputError
from latchflow.runtime.contract import ContractError
from latchflow.runtime.invoking.inbound import InboundError
from latchflow.sdk import Callback, Emit, HttpResponse, Reject, Schedule
from latchflow.testing import Harness, ScriptedHttp, plugin_under_test

_TOML = """
name = "acme-tried"
version = "1.0.0"
sdk = ">=1,<2"
scopes = ["email:send", "storage:read", "storage:write", "users:write", "bundles:toggle"]
"""
_CODE = """
from datetime import timedelta
from pydantic import BaseModel, Field
from latchflow.sdk import *

class Config(BaseModel):
    to: str = "ada@example.org"
    key: str | None = Field(None, json_schema_extra={"writeOnly": True})
    values: dict = Field({}, json_schema_extra={"x-latchflow-template": True})

plugin = Plugin()
ALL = ["email:send", "storage:read", "storage:write", "users:write", "bundles:toggle"]
BUNDLE = "00000000-0000-4000-8000-000000000001"

@plugin.action("mail", display_name="Mail", config_schema=Config, scopes=ALL)
async def mail(call):
    call.heartbeat("half")
    call.logger.info("sending", key=call.secrets.get("key"))
    await call.services.email.send(EmailMessage(to=[EmailAddress(address=call.config.to)], subject="s"))
    answer = await call.services.http.request(HttpRequest(method="POST", url="https://example.org"))
    if answer.status == 503:
        raise Retry(reason="busy")
    return {"status": answer.status, "attempt": call.invocation.attempt, "values": call.config.values}

@plugin.action("rest", display_name="Rest", config_schema=Config, scopes=ALL)
def rest(call):
    put = call.wait(call.services.storage.put(BUNDLE, "a/b.txt", b"hello"))
    async def read():
        return b"".join([chunk async for chunk in call.services.storage.get(BUNDLE, "a/b.txt")])
    link = call.wait(call.services.storage.create_release_link(BUNDLE, expires_in=timedelta(hours=1)))
    user = call.wait(call.services.users.invite("bob@example.org"))
    call.wait(call.services.resources.set_bundle_enabled(BUNDLE, False))
    return {"size": put.size, "text": call.wait(read()).decode(), "url": link.url, "user": user.status}

@plugin.action("undeclared", display_name="Undeclared", config_schema=Config)
async def undeclared(call):
    await call.services.users.get(BUNDLE)

async def resume(call, state):
    if call.callback is None:
        return Pending(check_after=timedelta(days=1), state=state)
    return {"asked": state, "body": call.callback.body, "at": call.callback.received_at.isoformat()}

@plugin.action("ask", display_name="Ask", config_schema={}, resume=resume)
async def ask(call):
    urls = [await call.callback_url() for _ in range(call.payload.get("urls", 1))]
    return Pending(check_after=timedelta(days=1), state=urls[0])

@plugin.inbound_trigger("come", display_name="Come", config_schema=Config)
def come(request, config):
    if request.headers.get("x-key") != request.secrets.get("key"):
        return Reject(status=401, reason="no")
    return Emit(context={"body": request.body.decode()})

@plugin.resident_trigger("listen", display_name="Listen", config_schema=Config)
class Listen(ResidentTrigger[Config]):
    async def start(self):
        for number in range(1, 3):
            await self.emit(context={"to": self.config.to}, key=f"{self.config.to} {number}", cursor=number)
        await self.emit(context={"again": True}, key=f"{self.config.to} 1")

    async def stop(self):
        pass

@plugin.scheduled_trigger("daily", display_name="Daily", config_schema=Config)
def daily(config):
    return Schedule(expression="@daily")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plugin")
    (folder / "plugin.toml").write_text(_TOML)
    (folder / "__init__.py").write_text(_CODE)
    return folder


@pytest.fixture
def harness(folder: Path) -> Iterator[Harness]:
    with plugin_under_test(folder) as harness:
        yield harness


def test_an_action_runs_and_everything_about_it_can_be_seen(harness: Harness) -> None:
    run = harness.run("mail", config={"key": "a long secret", "values": {"n": "1 + 1"}})

    assert run.output == {"status": 200, "attempt": 1, "values": {"n": 2}}
    assert [message.subject for message in harness.services.email.sent] == ["s"]
    assert run.progress == ["half"]
    assert [(entry["event"], entry["key"]) for entry in run.logs] == [("sending", "[secret]")]
    assert [call.service for call in run.calls if call.outcome == "ok"] == ["email.send", "http.request"]


def test_another_attempt_at_an_invocation_does_not_send_again(harness: Harness) -> None:
    harness.services.http = ScriptedHttp(answers=[HttpResponse(status=503, headers={}, content=b"")])
    invocation_id = uuid4()
    first = harness.run("mail", invocation_id=invocation_id)
    second = harness.run("mail", invocation_id=invocation_id)

    assert first.failure.error_type == "Retry"
    assert (second.output["status"], second.output["attempt"]) == (200, 2)
    assert len(harness.services.email.sent) == 1


def test_every_service_answers_a_plain_function_too(harness: Harness) -> None:
    output = harness.run("rest").output

    bundle = UUID("00000000-0000-4000-8000-000000000001")
    assert (output["size"], output["text"], output["user"]) == (5, "hello", "INVITED")
    assert output["url"] == harness.services.storage.links[0].url
    assert harness.services.storage.contents == {(bundle, "a/b.txt"): b"hello"}
    assert harness.services.resources.states == {("bundle", bundle): False}


def test_an_action_gets_a_callback_address_and_what_was_sent_there(harness: Harness) -> None:
    invocation = uuid4()
    sent = Callback(body={"state": "ready"}, content_type="application/json", received_at=datetime.now(UTC))

    first = harness.run("ask", invocation_id=invocation)
    by_time = harness.run("ask", invocation_id=invocation)
    called = harness.run("ask", invocation_id=invocation, callback=sent)

    (url,) = harness.services.callbacks.urls[invocation]
    assert first.waiting.state == by_time.waiting.state == url
    assert url.startswith("https://")
    assert called.output == {"asked": url, "body": {"state": "ready"}, "at": sent.received_at.isoformat()}
    assert [(call.service, call.outcome) for call in first.calls] == [("callbacks.mint", "ok")]
    with pytest.raises(ValueError, match="that waits"):
        harness.run("ask", invocation_id=invocation, callback=sent)


def test_no_more_addresses_are_given_than_a_worker_gives(harness: Harness) -> None:
    failure = harness.run("ask", payload={"urls": 21}).failure

    assert failure.error_type == "fatal"
    assert "20 callback addresses" in failure.message


def test_the_guard_is_the_real_one(harness: Harness, folder: Path) -> None:
    assert harness.run("undeclared").failure.error_type == "denied"
    with plugin_under_test(folder, granted=[]) as ungranted:
        assert ungranted.run("mail").failure.error_type == "denied"
        assert ungranted.services.email.sent == []


def test_a_config_that_could_not_be_saved_is_refused(harness: Harness) -> None:
    with pytest.raises(InvalidInputError) as caught:
        harness.run("mail", config={"to": 7})
    assert [fault.pointer for fault in caught.value.errors] == ["/config/to"]


def test_a_request_becomes_an_event_or_a_refusal(harness: Harness) -> None:
    config = {"key": "a long secret"}
    emitted = harness.deliver("come", config=config, body=b"hi", headers={"X-Key": "a long secret"})
    rejected = harness.deliver("come", config=config)

    assert emitted == [Emit(context={"body": "hi"})]
    assert rejected == Reject(status=401, reason="no")
    with pytest.raises(InboundError):
        harness.deliver("come", body=b"\xff")


def test_a_trigger_that_listens_emits_and_finds_its_cursor_again(harness: Harness) -> None:
    with harness.listening("listen") as listening:
        first = listening.until(2)
        listening.reconfigure({"to": "bob@example.org"})
        listening.restart()
        after = listening.until(4)

    assert [emission.key for emission in first] == ["ada@example.org 1", "ada@example.org 2"]
    assert [emission.context["to"] for emission in after[2:]] == ["bob@example.org"] * 2
    assert listening.cursor == 2


def test_a_trigger_that_does_not_emit_is_not_waited_for_for_ever(harness: Harness) -> None:
    with (
        harness.listening("listen") as listening,
        pytest.raises(AssertionError, match="emitted 2 times"),
    ):
        listening.until(3, within_seconds=0.1)


def test_a_schedule_can_be_looked_at(harness: Harness) -> None:
    assert harness.schedule("daily") == Schedule(expression="@daily")


def test_a_plugin_that_breaks_the_contract_does_not_load(tmp_path: Path) -> None:
    (tmp_path / "plugin.toml").write_text(_TOML)
    (tmp_path / "__init__.py").write_text("plugin = 7\n")

    with pytest.raises(ContractError, match="must bind `plugin`"), plugin_under_test(tmp_path):
        raise AssertionError("it was loaded")

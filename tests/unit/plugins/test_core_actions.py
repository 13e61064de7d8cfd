import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID

import jsonschema
import pytest

from latchflow.sdk import (
    ActionCall,
    EmailMessage,
    Invocation,
    PermanentFailure,
    Retry,
    SendResult,
    ServiceError,
)
from latchflow.services.egress import EgressGuard
from latchflow.services.http import GuardedHttp
from plugins.core import plugin
from tests.support.services import UNUSED
from tests.unit.services.servers import http_server, reply

ACTIONS = {action.key: action for action in plugin.actions}


class Outbox:
    """An email service that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[EmailMessage] = []

    async def send(
        self, message: EmailMessage, *, actor_id: str | None = None, requested_scopes: Sequence[str] = ("email:send",)
    ) -> SendResult:
        self.sent.append(message)
        return SendResult(provider_message_id="<1@x>", accepted_recipients=[entry.address for entry in message.to])


class Log:
    def __init__(self) -> None:
        self.warnings: list[Mapping[str, Any]] = []

    def debug(self, event: str, **fields: Any) -> None: ...
    def info(self, event: str, **fields: Any) -> None: ...
    def error(self, event: str, **fields: Any) -> None: ...
    def warning(self, event: str, **fields: Any) -> None:
        self.warnings.append(fields)


@dataclass
class World:
    http: GuardedHttp
    email: Outbox = field(default_factory=Outbox)
    log: Log = field(default_factory=Log)

    async def call(
        self,
        key: str,
        config: Mapping[str, Any],
        payload: Mapping[str, Any] | None = None,
        *,
        is_input: bool = False,
        secrets: Mapping[str, Any] | None = None,
    ) -> Any:
        action = ACTIONS[key]
        model: Any = action.config_schema
        jsonschema.validate(dict(config), model.model_json_schema())
        some_id = UUID(int=1)
        services: Any = self
        function: Any = action.action
        return await function(
            ActionCall(
                config=model.model_validate(config),
                secrets=secrets or {},
                payload=payload or {},
                invocation=Invocation(
                    id=some_id, attempt=1, event_id=some_id, trigger_id=some_id, pipeline_id=some_id, step_name="s"
                ),
                services=services,
                logger=self.log,
                idempotency_key="key-1",
                heartbeat=lambda _: None,
                deadline=datetime.now(UTC) + timedelta(seconds=30),
                wait=UNUSED,
                callback_url=UNUSED,
                is_payload_from_input=is_input,
            )
        )


@pytest.fixture
async def world() -> AsyncIterator[World]:
    http = GuardedHttp(EgressGuard("127.0.0.1"))
    yield World(http=http)
    await http.aclose()


def is_valid(key: str, config: Any) -> bool:
    model: Any = ACTIONS[key].config_schema
    return bool(jsonschema.Draft202012Validator(model.model_json_schema()).is_valid(config))


MAIL = {"to": ["ada@example.com", {"address": "bob@example.com", "displayName": "Bob"}], "subject": "Hello"}


async def test_a_mail_is_sent_as_configured(world: World) -> None:
    output = await world.call(
        "email.send",
        {**MAIL, "textBody": "t", "htmlBody": "<p>", "from": "me@example.com", "replyTo": {"address": "r@example.com"}},
    )

    sent = world.email.sent[0]
    assert [(entry.address, entry.display_name) for entry in sent.to] == [
        ("ada@example.com", None),
        ("bob@example.com", "Bob"),
    ]
    assert (sent.subject, sent.text_body, sent.html_body) == ("Hello", "t", "<p>")
    assert (sent.sender and sent.sender.address, sent.reply_to and sent.reply_to.address) == (
        "me@example.com",
        "r@example.com",
    )
    assert output == {
        "providerMessageId": "<1@x>",
        "acceptedRecipients": ["ada@example.com", "bob@example.com"],
        "rejectedRecipients": [],
    }


async def test_the_context_of_an_event_addresses_no_mail(world: World) -> None:
    await world.call("email.send", MAIL, {"to": ["victim@example.com"], "subject": "Spam"})

    assert (world.email.sent[0].to[0].address, world.email.sent[0].subject) == ("ada@example.com", "Hello")


async def test_the_context_sets_what_overridable_names_and_nothing_else(world: World) -> None:
    await world.call(
        "email.send", {**MAIL, "overridable": ["subject"]}, {"to": ["victim@example.com"], "subject": "Theirs"}
    )

    assert (world.email.sent[0].to[0].address, world.email.sent[0].subject) == ("ada@example.com", "Theirs")


async def test_the_input_of_a_step_replaces_fields_and_brings_missing_ones(world: World) -> None:
    await world.call(
        "email.send",
        {"subject": "Hello", "textBody": "t"},
        {"to": ["new@example.com"], "textBody": None},
        is_input=True,
    )

    sent = world.email.sent[0]
    assert (sent.to[0].address, sent.subject, sent.text_body) == ("new@example.com", "Hello", None)


async def test_input_fields_that_an_action_lacks_are_ignored_with_a_warning(world: World) -> None:
    await world.call("email.send", MAIL, {"subjct": "x", "overridable": ["to"]}, is_input=True)

    assert world.log.warnings == [{"fields": ["overridable", "subjct"]}]


@pytest.mark.parametrize(
    ("config", "missing"),
    [({"subject": "s"}, "to"), ({"to": ["a@b.c"]}, "subject"), ({"to": [], "subject": "s"}, "to")],
)
async def test_a_field_missing_at_the_call_is_named(world: World, config: dict[str, Any], missing: str) -> None:
    with pytest.raises(PermanentFailure, match=f"^{missing} is missing"):
        await world.call("email.send", config)


async def test_a_payload_that_does_not_fit_is_a_permanent_failure_naming_the_field(world: World) -> None:
    with pytest.raises(PermanentFailure, match=r"textBody"):
        await world.call("email.send", MAIL, {"textBody": 5}, is_input=True)


@pytest.mark.parametrize(
    ("key", "config"),
    [
        ("email.send", {**MAIL, "attachments": [{"path": "a"}]}),
        ("email.send", {**MAIL, "attachments": [{"bundleId": "6a0f0d4e-0000-4000-8000-000000000001"}]}),
        ("email.send", {**MAIL, "to": ["nobody"]}),
        ("email.send", {**MAIL, "to": "a@b.c"}),
        ("email.send", {**MAIL, "headers": {"X A": "b"}}),
        ("email.send", {**MAIL, "overridable": ["overridable"]}),
        ("http.request", {"method": "FETCH", "url": "http://h"}),
        ("http.request", {"method": "GET", "url": "file:///etc/passwd"}),
        ("http.request", {"method": "POST", "url": "http://h", "json": 1, "body": "b"}),
        ("http.request", {"method": "GET", "url": "http://h", "overridable": ["secretHeaders"]}),
        ("http.request", {"method": "GET", "url": "http://h", "timeoutSeconds": 116}),
        ("http.request", {"method": "GET", "url": "http://h", "secretHeaders": {"A\nB": "c"}}),
        ("transform", {}),
    ],
)
def test_the_schema_refuses_what_can_never_work(key: str, config: Any) -> None:
    assert not is_valid(key, config)


def test_a_definition_may_leave_out_what_its_input_brings() -> None:
    assert is_valid("email.send", {})
    assert is_valid("http.request", {})


def test_secret_headers_are_marked_as_secret() -> None:
    model: Any = ACTIONS["http.request"].config_schema

    assert model.model_json_schema()["properties"]["secretHeaders"]["writeOnly"] is True


async def test_a_request_carries_config_secrets_and_idempotency_key(world: World) -> None:
    async with http_server(reply(200, b'{"a": [1]}', content_type="application/json; charset=utf-8")) as server:
        output = await world.call(
            "http.request",
            {
                "method": "POST",
                "url": server.url,
                "headers": {"X-A": "1"},
                "query": {"q": True, "n": 5},
                "json": {"b": 2},
                "idempotencyHeader": "Idempotency-Key",
            },
            secrets={"secretHeaders": {"Authorization": "Token t"}},
        )

    received = server.received[0]
    assert (output["status"], output["json"], "text" in output) == (200, {"a": [1]}, False)
    assert output["headers"]["content-type"] == "application/json; charset=utf-8"
    assert received.line.startswith("POST /?q=true&n=5 ")
    assert received.body == b'{"b":2}'
    assert [received.headers[name] for name in ("x-a", "authorization", "idempotency-key")] == ["1", "token t", "key-1"]


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        (b"plain", "text/plain", "plain"),
        ("ü".encode("latin-1"), "text/plain; charset=latin-1", "ü"),
        (b"{", "application/json", "{"),
    ],
)
async def test_what_is_no_json_is_text(world: World, body: bytes, content_type: str, text: str) -> None:
    async with http_server(reply(200, body, content_type=content_type)) as server:
        output = await world.call("http.request", {"method": "GET", "url": server.url})

    assert output["text"] == text


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_these_statuses_are_retried(world: World, status: int) -> None:
    async with http_server(reply(status, b"busy")) as server:
        with pytest.raises(Retry, match=f"{status}: busy") as caught:
            await world.call("http.request", {"method": "POST", "url": server.url})

    assert caught.value.after is None


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422])
async def test_other_statuses_fail_permanently(world: World, status: int) -> None:
    async with http_server(reply(status, b"no  such\nthing")) as server:
        with pytest.raises(PermanentFailure, match=f"{status}: no such thing") as caught:
            await world.call("http.request", {"method": "POST", "url": server.url})

    assert caught.value.error_type == f"HttpStatus{status}"


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        ("999999999999", 86400, 86400),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)
async def test_retry_after_is_honoured_up_to_a_day(world: World, value: str, least: int, most: int) -> None:
    async with http_server(reply(503, retry_after=value)) as server:
        with pytest.raises(Retry) as caught:
            await world.call("http.request", {"method": "GET", "url": server.url})

    assert caught.value.after is not None
    assert least <= caught.value.after.total_seconds() <= most


async def test_retry_after_may_be_a_date(world: World) -> None:
    # Taken now, not when the tests are collected: by then it may have passed.
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    async with http_server(reply(503, retry_after=date)) as server:
        with pytest.raises(Retry) as caught:
            await world.call("http.request", {"method": "GET", "url": server.url})

    assert caught.value.after is not None
    assert 60 <= caught.value.after.total_seconds() <= 100


async def test_an_unreadable_retry_after_leaves_the_wait_to_the_policy(world: World) -> None:
    async with http_server(reply(503, retry_after="soon")) as server:
        with pytest.raises(Retry) as caught:
            await world.call("http.request", {"method": "GET", "url": server.url})

    assert caught.value.after is None


async def test_expect_status_decides_what_counts_as_success(world: World) -> None:
    statuses = itertools.cycle([404, 200])
    async with http_server(lambda _: reply(next(statuses))) as server:
        output = await world.call("http.request", {"method": "GET", "url": server.url, "expectStatus": [404]})
        with pytest.raises(PermanentFailure, match="200"):
            await world.call("http.request", {"method": "GET", "url": server.url, "expectStatus": [404]})

    assert output["status"] == 404


@pytest.mark.parametrize(("extra", "kind"), [({}, "outcome_unknown"), ({"idempotencyHeader": "I-K"}, "retryable")])
async def test_an_idempotency_header_makes_a_broken_connection_retryable(
    world: World, extra: dict[str, Any], kind: str
) -> None:
    async with http_server(None) as server:
        with pytest.raises(ServiceError) as caught:
            await world.call("http.request", {"method": "POST", "url": server.url, **extra})

    assert caught.value.kind == kind


async def test_the_idempotency_key_cannot_be_replaced_by_a_secret_header(world: World) -> None:
    config = {
        "method": "POST",
        "url": "http://h",
        "idempotencyHeader": "I-K",
        "secretHeaders": {"i-k": "always the same"},
    }
    with pytest.raises(PermanentFailure, match="I-K"):
        await world.call("http.request", config, secrets={"secretHeaders": config["secretHeaders"]})


async def test_json_and_body_brought_together_fail_permanently(world: World) -> None:
    with pytest.raises(PermanentFailure, match="exclude each other"):
        await world.call("http.request", {"method": "POST", "url": "http://h", "json": 1}, {"body": "b"}, is_input=True)


async def test_an_input_brings_no_secret_header(world: World) -> None:
    async with http_server(reply()) as server:
        await world.call(
            "http.request",
            {"method": "GET"},
            {"url": server.url, "secretHeaders": {"X-Leak": "1"}},
            is_input=True,
        )

    assert "x-leak" not in server.received[0].headers
    assert world.log.warnings == [{"fields": ["secretHeaders"]}]


async def test_transform_returns_its_evaluated_values(world: World) -> None:
    output = await world.call("transform", {"values": {"a": 1, "b": {"c": ["x"]}}}, {"values": {"a": 2}})

    assert output == {"a": 1, "b": {"c": ["x"]}}
    assert ACTIONS["transform"].is_inline


def test_transform_marks_its_values_as_a_template() -> None:
    model: Any = ACTIONS["transform"].config_schema

    assert model.model_json_schema()["properties"]["values"]["x-latchflow-template"] is True


async def test_calls_side_by_side_do_not_disturb_each_other(world: World) -> None:
    async with http_server(lambda received: reply(200, received.line.encode())) as server:
        outputs = await asyncio.gather(
            *(world.call("http.request", {"method": "GET", "url": f"{server.url}/{number}"}) for number in range(20))
        )

    assert [output["text"].split()[1] for output in outputs] == [f"/{number}" for number in range(20)]


@pytest.mark.parametrize(
    "config", [{}, {"url": "http://127.0.0.1:1/"}, {"url": "same"}, {"allowedHosts": ["127.0.0.1"]}]
)
async def test_secret_headers_follow_no_url_that_a_payload_brings(world: World, config: dict[str, Any]) -> None:
    is_refused = config in ({}, {"url": "http://127.0.0.1:1/"})
    async with http_server(reply(200, b"ok")) as server:
        config = {**config, "method": "GET", **({"url": server.url} if config.get("url") == "same" else {})}
        brought = {"url": f"{server.url}/brought", "allowedHosts": ["127.0.0.1"]}
        secrets = {"secretHeaders": {"Authorization": "Token t"}}
        call = world.call("http.request", config, brought, is_input=True, secrets=secrets)
        if is_refused:
            with pytest.raises(PermanentFailure, match="secretHeaders"):
                await call
        else:
            assert (await call)["status"] == 200
    assert len(server.received) == (0 if is_refused else 1)

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import jsonschema
import pytest

from latchflow import nesting
from latchflow.sdk import Emit, InboundRequest, Reject
from plugins.webhook import plugin
from plugins.webhook.body import MAX_DEPTH
from plugins.webhook.config import WebhookConfig
from plugins.webhook.trigger import webhook

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
GITHUB_SECRET = "It's a Secret to Everybody"
STANDARD_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def call(
    verification: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
    *,
    method: str = "POST",
    at: datetime = NOW,
    secrets: dict[str, str] | None = None,
    **config: Any,
) -> Emit | Reject:
    request = InboundRequest(
        method=method,
        path="/below",
        query={"q": "1"},
        headers=headers or {},
        body=body,
        received_at=at,
        secrets=secrets or {},
    )
    return webhook(request, WebhookConfig.model_validate({"verification": verification, **config}))


def emitted(*args: Any, **kwargs: Any) -> Emit:
    answer = call(*args, **kwargs)
    assert isinstance(answer, Emit), answer
    return answer


def rejected(*args: Any, **kwargs: Any) -> Reject:
    answer = call(*args, **kwargs)
    assert isinstance(answer, Reject), answer
    return answer


def github(body: bytes, secret: str = GITHUB_SECRET, **headers: str) -> dict[str, str]:
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={signature}"} | {n.replace("_", "-"): v for n, v in headers.items()}


def standard(
    body: bytes, at: datetime = NOW, message_id: str = "msg_1", secret: str = STANDARD_SECRET
) -> dict[str, str]:
    timestamp = str(int(at.timestamp()))
    key = base64.b64decode(STANDARD_SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(digest).decode()}",
        "content-type": "application/json",
    }


def test_the_documented_example_of_github_is_taken() -> None:
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

    emit = emitted(
        "github",
        b"Hello, World!",
        {"x-hub-signature-256": signature, "content-type": "text/plain"},
        secrets={"secret": GITHUB_SECRET},
    )

    assert emit.context["body"] == "Hello, World!"


def test_the_documented_example_of_standard_webhooks_is_taken() -> None:
    emit = emitted(
        "standard-webhooks",
        b'{"test": 2432232314}',
        {
            "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
            "webhook-timestamp": "1614265330",
            "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            "content-type": "application/json",
        },
        at=datetime.fromtimestamp(1614265330, UTC),
        secrets={"secret": STANDARD_SECRET},
    )

    assert emit.context["body"] == {"test": 2432232314}
    assert (emit.key, emit.is_key_signed) == ("msg_p5jXN8AQM9LWM0D4loKWxJek", True)
    assert emit.metadata == {"source": "standard-webhooks", "deliveryId": "msg_p5jXN8AQM9LWM0D4loKWxJek"}


def test_the_context_holds_the_request_without_what_carried_credentials() -> None:
    body = b'{"zen": "ok"}'
    emit = emitted(
        "github",
        body,
        github(
            body,
            content_type="application/json",
            x_github_event="push",
            x_github_delivery="d-1",
            authorization="Bearer x",
            cookie="c",
            proxy_authorization="p",
            x_hub_signature="sha1=old",
            user_agent="GitHub-Hookshot",
        ),
        secrets={"secret": GITHUB_SECRET},
    )

    assert emit.context == {
        "method": "POST",
        "path": "/below",
        "query": {"q": "1"},
        "headers": {
            "content-type": "application/json",
            "x-github-event": "push",
            "x-github-delivery": "d-1",
            "user-agent": "GitHub-Hookshot",
        },
        "body": {"zen": "ok"},
        "receivedAt": "2026-01-02T03:04:05.000678Z",
    }
    assert emit.metadata == {"source": "github", "event": "push", "deliveryId": "d-1"}


def test_the_key_of_github_is_of_body_and_event_and_not_of_the_delivery() -> None:
    body, secrets = b"{}", {"secret": GITHUB_SECRET}
    first, second, other = (
        emitted("github", body, github(body, x_github_event=event, x_github_delivery=delivery), secrets=secrets)
        for event, delivery in (("push", "1"), ("push", "2"), ("ping", "3"))
    )

    assert first.key == second.key != other.key
    assert first.is_key_signed


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-hub-signature-256": ""},
        {"x-hub-signature-256": "sha256="},
        {"x-hub-signature-256": "sha256=" + "0" * 64},
        {"x-hub-signature-256": "ü" * 71},
        github(b"another body"),
        github(b"body", secret="another secret"),
        {"x-hub-signature": "sha1=" + hmac.new(GITHUB_SECRET.encode(), b"body", "sha1").hexdigest()},
    ],
)
def test_a_request_that_github_did_not_sign_is_rejected(headers: dict[str, str]) -> None:
    reject = rejected("github", b"body", headers, secrets={"secret": GITHUB_SECRET})

    assert reject.status == 401


@pytest.mark.parametrize("verification", ["github", "standard-webhooks"])
def test_without_a_secret_nothing_is_authentic(verification: str) -> None:
    assert rejected(verification, b"", github(b"", secret="") | standard(b"")).status == 401


@pytest.mark.parametrize("secret", ["old-secret-1", "new-secret-2"])
def test_the_previous_secret_is_accepted_beside_the_new_one(secret: str) -> None:
    emitted("github", b"x", github(b"x", secret), secrets={"secret": "new-secret-2", "previousSecret": "old-secret-1"})


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-signature": "v1,AAAA"},
        {"webhook-signature": "v1"},
        {"webhook-signature": "v1,not base64!"},
        {"webhook-signature": "\u00fc"},
        {"webhook-signature": ""},
        {"webhook-id": "msg_2"},
        {"webhook-id": ""},
        {"webhook-timestamp": "1"},
        {"webhook-timestamp": "nan"},
        {"webhook-timestamp": "9" * 400},
        {"webhook-timestamp": "\u0663"},
        {"webhook-timestamp": "1e9"},
    ],
)
def test_an_odd_header_of_standard_webhooks_is_a_rejection_and_no_error(change: dict[str, str]) -> None:
    reject = rejected("standard-webhooks", b"{}", standard(b"{}") | change, secrets={"secret": STANDARD_SECRET})

    assert reject.status == 401


def test_one_right_signature_among_several_suffices() -> None:
    headers = standard(b"{}")
    headers["webhook-signature"] = f"v1a,xx v1,AAAA {headers['webhook-signature']}"

    emitted("standard-webhooks", b"{}", headers, secrets={"secret": STANDARD_SECRET})


@pytest.mark.parametrize("offset", [-700, 700])
def test_the_tolerance_of_the_signed_time_is_the_configured_one(offset: int) -> None:
    headers = standard(b"{}", at=NOW + timedelta(seconds=offset))
    secrets = {"secret": STANDARD_SECRET}

    assert rejected("standard-webhooks", b"{}", headers, secrets=secrets).status == 401
    emitted("standard-webhooks", b"{}", headers, secrets=secrets, toleranceSeconds=701)


@pytest.mark.parametrize("secret", ["whsec_A", "whsec_", "\u00fc\u00fc\u00fc\u00fc"])
def test_a_secret_that_is_no_base64_rejects(secret: str) -> None:
    assert rejected("standard-webhooks", b"{}", standard(b"{}"), secrets={"secret": secret}).status == 401


def test_a_body_outside_utf_8_cannot_be_signed_by_standard_webhooks() -> None:
    reject = rejected("standard-webhooks", b"\xff", standard(b"\xff"), secrets={"secret": STANDARD_SECRET})

    assert reject.status == 401


def test_without_verification_the_idempotency_key_is_taken_but_not_as_signed() -> None:
    emit = emitted("none", b"", {"idempotency-key": "k"})

    assert (emit.key, emit.is_key_signed, emit.metadata) == ("k", False, {"source": "webhook"})


def test_without_verification_and_key_every_request_is_an_event_of_its_own() -> None:
    assert emitted("none").key is None


def test_an_overlong_idempotency_key_is_refused() -> None:
    assert rejected("none", b"", {"idempotency-key": "k" * 256}).status == 400


def test_a_method_that_is_not_configured_is_refused() -> None:
    assert rejected("none", method="GET").status == 405
    emitted("none", method="GET", methods=["GET", "POST"])


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/json", b'{"a": 1}', {"a": 1}),
        ("application/cloudevents+json; charset=utf-8", b"[1, null]", [1, None]),
        ("application/x-www-form-urlencoded", b"a=1&b=&a=2&payload=x", {"a": "2", "b": "", "payload": "x"}),
        ("text/plain; charset=iso-8859-1", "ü".encode("latin-1"), "ü"),
        ("text/plain", "ü".encode(), "ü"),
        ("application/json", b"", None),
    ],
)
def test_a_body_is_read_by_its_media_type(content_type: str, body: bytes, expected: Any) -> None:
    emit = emitted("none", body, {"content-type": content_type})

    assert emit.context["body"] == expected


@pytest.mark.parametrize("headers", [{}, {"content-type": "application/octet-stream"}, {"content-type": "odd"}])
def test_other_bodies_come_in_base64_and_say_so(headers: dict[str, str]) -> None:
    emit = emitted("none", b"\x00\xff", headers)

    assert emit.context["body"] == "AP8="
    assert emit.metadata["bodyEncoding"] == "base64"


def test_the_form_of_github_is_parsed() -> None:
    body = b"payload=%7B%22zen%22%3A%22%C3%BC%22%7D"

    emit = emitted(
        "github",
        body,
        github(body, content_type="application/x-www-form-urlencoded"),
        secrets={"secret": GITHUB_SECRET},
    )

    assert emit.context["body"] == {"zen": "ü"}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"NaN"),
        ("application/json", b"1e999"),
        ("application/json", b'"\\ud800"'),
        ("application/json", b"\xff\xfe\xfa"),
        ("application/json", b"[" * 100_000),
        ("application/json", b"[" * 200 + b"]" * 200),
        ("application/json", b"9" * 10_000),
        ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * 1001)),
        ("application/x-www-form-urlencoded", b"a=%ff"),
        ("text/plain", b"\xff"),
        ("text/plain; charset=punycode", b"a"),
    ],
)
def test_a_malformed_body_is_refused(content_type: str, body: bytes) -> None:
    assert rejected("none", body, {"content-type": content_type}).status == 400


def test_every_context_can_be_written_as_json() -> None:
    emit = emitted("none", b'{"a": "\\u0000\\ud83d\\ude00"}', {"content-type": "application/json"})

    json.dumps(emit.context, ensure_ascii=False, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("config", "is_valid"),
    [
        ({"verification": "none"}, True),
        ({"verification": "github", "secret": "12345678"}, True),
        ({"verification": "standard-webhooks", "secret": STANDARD_SECRET, "previousSecret": "MTIzNDU2Nzg="}, True),
        ({"verification": "github"}, False),
        ({"verification": "github", "secret": None}, False),
        ({"verification": "standard-webhooks"}, False),
        ({"verification": "github", "secret": "1234567"}, False),
        ({"verification": "standard-webhooks", "secret": "not base64!"}, False),
        ({"verification": "stripe", "secret": "12345678"}, False),
        ({"verification": "none", "methods": []}, False),
        ({"verification": "none", "respond": "ack"}, False),
        ({}, False),
    ],
)
def test_the_schema_demands_what_the_verification_needs(config: dict[str, Any], is_valid: bool) -> None:
    schema: Any = plugin.inbound_triggers[0].config_schema

    assert jsonschema.Draft202012Validator(schema.model_json_schema()).is_valid(config) is is_valid


def test_the_secrets_are_marked_as_secret() -> None:
    properties = WebhookConfig.model_json_schema()["properties"]

    assert {name for name, value in properties.items() if value.get("writeOnly")} == {"secret", "previousSecret"}


def test_it_takes_json_as_deep_as_a_context_may_hold() -> None:
    assert MAX_DEPTH == nesting.MAX_DEPTH

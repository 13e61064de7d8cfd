import socket
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from uuid import uuid4

import httpx2

from tests.e2e.stack import SECRET, Stack


def events_of(stack: Stack, trigger_id: str) -> int:
    return len(stack.get(f"/admin/triggers/{trigger_id}/events")["items"])


def post(stack: Stack, path: str, content: bytes, **headers: str) -> httpx2.Response:
    return httpx2.post(f"{stack.ready['apiUrl']}{path}", content=content, headers=headers, trust_env=False)


def test_second_delivery_of_a_signed_body_starts_no_second_event(stack: Stack) -> None:
    trigger_id = stack.sleeping_pipeline("twice", seconds=0)
    body = {"note": str(uuid4())}
    with ThreadPoolExecutor(8) as senders:
        answers = list(senders.map(lambda _: stack.deliver(trigger_id, body), range(20)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["eventId"] for answer in answers}) == 1
    assert sum(not answer.json()["duplicate"] for answer in answers) == 1
    assert events_of(stack, trigger_id) == 1
    event = stack.until_ended(answers[0].json()["eventId"], 20)
    assert event["deliveries"] == 20


def test_wrong_signature_is_refused_audited_and_creates_nothing(stack: Stack) -> None:
    trigger_id = stack.github_trigger("wrong-signature")

    answer = stack.deliver(trigger_id, {"note": 1}, secret="another secret")

    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET not in answer.text
    assert events_of(stack, trigger_id) == 0
    entries = stack.get(f"/admin/audit?triggerDefinitionId={trigger_id}&kind=trigger")["items"]
    assert [entry["phase"] for entry in entries] == ["REJECTED"]


def test_unknown_trigger_is_404_and_a_disabled_one_409(stack: Stack) -> None:
    disabled = stack.github_trigger("disabled", is_enabled=False)

    assert stack.deliver(str(uuid4()), {}).status_code == 404
    assert stack.deliver("no-such-id", {}).status_code == 404
    answer = stack.deliver(disabled, {})
    assert answer.status_code == 409
    assert "disabled" in answer.json()["detail"]


def test_malformed_json_is_400_and_creates_nothing(stack: Stack) -> None:
    capability = {"plugin": "@latchflow/plugin-webhook", "key": "webhook"}
    trigger = stack.create("triggers", name="open-door", capability=capability, config={"verification": "none"})

    answer = post(stack, f"/hooks/{trigger['id']}", b'{"a": ', **{"Content-Type": "application/json"})

    assert answer.status_code == 400
    assert events_of(stack, trigger["id"]) == 0
    assert post(stack, "/admin/triggers", b"{").status_code == 401


def test_body_over_the_limit_is_413_before_it_is_read_whole(stack: Stack) -> None:
    trigger_id = stack.github_trigger("too-large")
    address = urlsplit(stack.ready["apiUrl"])
    head = f"POST /hooks/{trigger_id} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(head.encode() + b"x" * 1000)

        answer = connection.recv(65536)

    assert answer.startswith(b"HTTP/1.1 413 ")


def test_context_over_512_kib_is_413(stack: Stack) -> None:
    trigger_id = stack.github_trigger("large-context")

    assert stack.deliver(trigger_id, {"note": "x" * (600 * 1024)}).status_code == 413
    assert events_of(stack, trigger_id) == 0


def test_config_against_its_schema_is_422_with_pointers(stack: Stack) -> None:
    capability = {"plugin": "@latchflow/plugin-webhook", "key": "webhook"}
    body = {"name": "bad", "capability": capability, "config": {"verification": "github", "methods": ["BREW"]}}

    answer = stack.api.post("/admin/triggers", json=body)

    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.json()["errors"]} == {"/config/secret", "/config/methods/0"}


def test_reused_idempotency_key_with_another_body_is_409(stack: Stack) -> None:
    capability = {"plugin": "@latchflow/plugin-webhook", "key": "webhook"}
    trigger = stack.create("triggers", name="keyed", capability=capability, config={"verification": "none"})
    path = f"/hooks/{trigger['id']}"

    answers = [post(stack, path, body, **{"Idempotency-Key": "k1"}) for body in (b"one", b"one", b"two")]

    assert [answer.status_code for answer in answers] == [202, 202, 409]
    assert answers[1].json() == {"eventId": answers[0].json()["eventId"], "duplicate": True}
    assert events_of(stack, trigger["id"]) == 1

"""``POST /admin/invocations/{id}/approval``, in an API that cannot reach Temporal."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest

from latchflow.crypto import Keyring
from tests.integration.api.waiting import add_approval, add_waiting, document
from tests.support.api import Query, ScopedClient, Wiring, pointers


def _path(invocation_id: object) -> str:
    return f"/admin/invocations/{invocation_id}/approval"


async def test_a_decision_is_on_record_when_it_is_answered_though_temporal_is_away(
    client: httpx2.AsyncClient, scoped: ScopedClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    invocation_id = await add_approval(wiring, query, keyring, approvers=["ops"])
    operator = await scoped("events:operate", name="ops")

    answer = await operator.post(_path(invocation_id), json={"decision": "approve", "comment": "go"})

    assert (answer.status_code, answer.json()) == (202, {"invocationId": str(invocation_id), "decision": "approve"})
    (row,) = query("SELECT decision, event_id FROM invocations")
    assert {**row["decision"], "at": None} == {"decision": "approve", "comment": "go", "by": "ops", "at": None}
    (entry,) = query(
        "SELECT actor, detail FROM audit_entries WHERE kind = 'admin' AND invocation_id = %s", invocation_id
    )
    assert entry["actor"] == "ops"
    assert entry["detail"]["caller"]["tokenId"]
    shown = document((await client.get(f"/admin/events/{row['event_id']}")).json(), invocation_id)
    assert (shown["kind"], shown["waitingFor"], shown["approvers"]) == ("approval", "decision", ["ops"])
    assert (shown["decision"]["by"], shown["decision"]["decision"]) == ("ops", "approve")
    assert datetime.fromisoformat(shown["decision"]["at"]) <= datetime.now(UTC)


async def test_a_second_decision_is_told_who_decided_and_when(
    client: httpx2.AsyncClient, scoped: ScopedClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    invocation_id = await add_approval(wiring, query, keyring)
    await (await scoped("events:operate", name="first")).post(_path(invocation_id), json={"decision": "reject"})
    before = query("SELECT decision FROM invocations")

    answer = await client.post(_path(invocation_id), json={"decision": "approve"})

    assert answer.status_code == 409
    assert f"'first' decided reject at {before[0]['decision']['at']}" in answer.json()["detail"]
    assert query("SELECT decision FROM invocations") == before


async def test_only_the_approvers_decide(
    client: httpx2.AsyncClient, scoped: ScopedClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    invocation_id = await add_approval(wiring, query, keyring, approvers=["boss", "ada@example.org"])
    other = await scoped("events:operate", name="Boss")

    for caller, name in ((client, "bootstrap"), (other, "Boss")):
        answer = await caller.post(_path(invocation_id), json={"decision": "approve"})

        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert f"boss, ada@example.org. This call came from '{name}'" in answer.json()["detail"]
    assert query("SELECT decision FROM invocations") == [{"decision": None}]
    denied = query("SELECT actor, detail->>'reason' AS reason FROM audit_entries WHERE kind = 'auth' ORDER BY seq")
    assert denied == [{"actor": "bootstrap", "reason": "approver"}, {"actor": "Boss", "reason": "approver"}]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("status = 'PENDING'", "its status is PENDING"),
        ("status = 'CANCELLED', ended_at = now()", "its status is CANCELLED"),
        ("status = 'SUCCEEDED', ended_at = now()", "its status is SUCCEEDED"),
        ("pending_deadline = now() - interval '1 second'", "was up at"),
        ("kind = 'action'", "is no approval, but of the kind action"),
    ],
)
async def test_what_does_not_wait_for_a_decision_takes_none(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring, change: str, words: str
) -> None:
    invocation_id = await add_approval(wiring, query, keyring)
    query(f"UPDATE invocations SET {change}")  # noqa: S608 - ours

    answer = await client.post(_path(invocation_id), json={"decision": "approve"})

    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert words in answer.json()["detail"]
    assert query("SELECT decision FROM invocations") == [{"decision": None}]


async def test_an_action_that_waits_for_a_callback_is_no_approval(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    invocation_id = await add_waiting(wiring, query, keyring)

    assert (await client.post(_path(invocation_id), json={"decision": "approve"})).status_code == 409


async def test_an_unknown_invocation_is_not_found(client: httpx2.AsyncClient) -> None:
    assert (await client.post(_path(uuid4()), json={"decision": "approve"})).status_code == 404


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ({}, ["/decision"]),
        ({"decision": "maybe"}, ["/decision"]),
        ({"decision": "approve", "comment": 7}, ["/comment"]),
        ({"decision": "approve", "comment": "x" * 2001}, ["/comment"]),
        ({"decision": "approve", "comment": "\x00"}, ["/comment"]),
        ({"decision": "approve", "by": "me"}, ["/by"]),
    ],
)
async def test_a_body_that_breaks_a_rule_decides_nothing(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring, body: dict[str, Any], places: list[str]
) -> None:
    invocation_id: UUID = await add_approval(wiring, query, keyring)

    answer = await client.post(_path(invocation_id), json=body)

    assert answer.status_code == 422
    assert pointers(answer) == places
    assert query("SELECT decision FROM invocations") == [{"decision": None}]


async def test_the_scope_is_needed(scoped: ScopedClient, wiring: Wiring, query: Query, keyring: Keyring) -> None:
    invocation_id = await add_approval(wiring, query, keyring)
    reader = await scoped("events:read")

    assert (await reader.post(_path(invocation_id), json={"decision": "approve"})).status_code == 403

"""The gate from outside: its options, two API processes, and what events say of it."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI

from latchflow.key_material import new_encryption_key
from tests.integration.api.test_pause import fire, wired
from tests.support.api import Query, Wiring, pointers
from tests.support.api_process import ROOT, ApiProcess
from tests.support.postgres import TestDatabase

ANY = {"If-Match": "*"}


async def test_a_trigger_has_its_options_from_creation_on(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    plain = await wiring.trigger("plain")
    created = await wiring.trigger("limited", overlap="buffer_one", maxRunningEvents=3)

    assert (plain["overlap"], plain["maxRunningEvents"]) == ("allow_all", None)
    assert (created["overlap"], created["maxRunningEvents"]) == ("buffer_one", 3)
    assert (await client.get(f"/admin/triggers/{created['id']}")).json() == created


async def test_the_options_change_with_a_new_version_and_an_audit_entry(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query
) -> None:
    trigger = await wiring.trigger(maxRunningEvents=3)
    path = f"/admin/triggers/{trigger['id']}"
    changed = await client.patch(path, json={"overlap": "skip", "maxRunningEvents": None}, headers=ANY)

    assert changed.status_code == 200
    document = changed.json()
    assert (document["overlap"], document["maxRunningEvents"], document["version"]) == ("skip", None, 2)
    rows = query("SELECT detail FROM audit_entries WHERE detail ->> 'operation' = 'update'")
    assert [row["detail"]["fields"] for row in rows] == [["overlap", "maxRunningEvents"]]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"overlap": "allow"}, "/overlap"),
        ({"overlap": None}, "/overlap"),
        ({"overlap": ["skip"]}, "/overlap"),
        ({"maxRunningEvents": 0}, "/maxRunningEvents"),
        ({"maxRunningEvents": -1}, "/maxRunningEvents"),
        ({"maxRunningEvents": 1.5}, "/maxRunningEvents"),
        ({"maxRunningEvents": "2"}, "/maxRunningEvents"),
        ({"maxRunningEvents": True}, "/maxRunningEvents"),
        ({"maxRunningEvents": 10**12}, "/maxRunningEvents"),
    ],
)
async def test_an_option_that_breaks_a_rule_is_named(
    client: httpx2.AsyncClient, wiring: Wiring, fields: dict[str, Any], pointer: str
) -> None:
    trigger = await wiring.trigger()
    config = {"verification": "none"}
    body = {"name": "other", "capability": trigger["capability"], "config": config, **fields}
    answers = [
        await client.post("/admin/triggers", json=body),
        await client.patch(f"/admin/triggers/{trigger['id']}", json=fields, headers=ANY),
    ]

    assert [answer.status_code for answer in answers] == [422, 422]
    assert [pointers(answer) for answer in answers] == [[pointer], [pointer]]


async def test_an_action_has_no_such_options(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    action = await wiring.action()
    answer = await client.patch(f"/admin/actions/{action['id']}", json={"overlap": "skip"}, headers=ANY)

    assert "overlap" not in action
    assert (answer.status_code, pointers(answer)) == (422, ["/overlap"])


async def test_a_skipped_event_is_closed_and_says_why(client: httpx2.AsyncClient, app: FastAPI, wiring: Wiring) -> None:
    trigger_id = await wired(wiring, overlap="skip")
    first, second = [await fire(app, trigger_id) for _ in range(2)]

    running, skipped = [(await client.get(f"/admin/events/{event_id}")).json() for event_id in (first, second)]
    assert (running["gate"]["verdict"], running["gate"]["reason"], running["closedReason"]) == ("run", None, None)
    assert (skipped["status"], skipped["closedBy"], skipped["runs"]) == ("IGNORED", "dispatch", [])
    assert skipped["closedReason"].endswith("(overlap: skip).")
    assert skipped["gate"]["verdict"] == "skip"


async def test_only_steps_whose_turn_has_come_lack_a_worker(
    client: httpx2.AsyncClient, app: FastAPI, wiring: Wiring, query: Query
) -> None:
    trigger, action = await wiring.trigger(), await wiring.action()
    names = [("a", 0), ("b", 1), ("c", 1), ("d", 2)]
    steps = [{"name": name, "actionId": action["id"], "sortOrder": order} for name, order in names]
    await wiring.pipeline(triggers=[{"triggerId": trigger["id"]}], steps=steps)
    event_id = await fire(app, UUID(trigger["id"]))

    async def seen() -> dict[str, str | None]:
        event = (await client.get(f"/admin/events/{event_id}")).json()
        return {row["stepName"]: row["waitingFor"] for row in event["runs"][0]["invocations"]}

    assert set((await seen()).values()) == {None}, "Temporal does not have it yet"
    query("UPDATE events SET status = 'RUNNING' RETURNING id")
    assert await seen() == {"a": "capacity", "b": None, "c": None, "d": None}
    query("UPDATE invocations SET status = 'SUCCEEDED', ended_at = now() WHERE step_name = 'a' RETURNING id")
    query("UPDATE invocations SET status = 'RUNNING' WHERE step_name = 'b' RETURNING id")
    assert await seen() == {"a": None, "b": None, "c": "capacity", "d": None}


@pytest.fixture
def two_processes(database: TestDatabase, tmp_path: Path) -> Iterator[list[ApiProcess]]:
    key = new_encryption_key()
    processes = []
    try:
        for _ in range(2):
            home = {"LATCHFLOW_STORAGE_DIR": str(tmp_path), "PLUGIN_AUTO_ENABLE": "true"}
            processes.append(ApiProcess(database, ROOT, key, **home))
        yield processes
    finally:
        for process in processes:
            process.close()


def deliver(processes: list[ApiProcess], trigger_id: str, times: int) -> list[str]:
    def one(number: int) -> str:
        answer = processes[number % len(processes)].client.post(f"/hooks/{trigger_id}", json={"number": number})
        assert answer.status_code == 202, answer.text
        event_id: str = answer.json()["eventId"]
        return event_id

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(one, range(times)))


@pytest.mark.long
async def test_twenty_deliveries_at_once_to_two_processes_pass_one_gate(two_processes: list[ApiProcess]) -> None:
    admin = two_processes[0].client

    def create(kind: str, **body: Any) -> str:
        answer = admin.post(f"/admin/{kind}", json=body)
        assert answer.status_code == 201, answer.text
        identifier: str = answer.json()["id"]
        return identifier

    webhook = {"plugin": "@latchflow/plugin-webhook", "key": "webhook"}
    transform = {"plugin": "@latchflow/core", "key": "transform"}
    action_id = create("actions", name="one", capability=transform, config={"values": {"one": "1"}})
    cases: list[tuple[dict[str, Any], dict[str, int]]] = [
        ({"overlap": "skip"}, {"run": 1, "skip": 19}),
        ({"overlap": "buffer_one"}, {"run": 1, "wait": 1, "skip": 18}),
        ({"maxRunningEvents": 2}, {"run": 2, "wait": 18}),
        ({}, {"run": 20}),
    ]
    for number, (options, verdicts) in enumerate(cases):
        name = f"hook {number}"
        trigger_id = create("triggers", name=name, capability=webhook, config={"verification": "none"}, **options)
        steps = [{"name": "one", "actionId": action_id}]
        create("pipelines", name=name, triggers=[{"triggerId": trigger_id}], steps=steps)

        fired = await asyncio.to_thread(deliver, two_processes, trigger_id, 20)

        events = [admin.get(f"/admin/events/{event_id}").json() for event_id in fired]
        assert Counter(event["gate"]["verdict"] for event in events) == verdicts
        # Temporal is away: whatever was let in has not been started, and waits for that alone.
        assert {event["status"] for event in events} <= {"PENDING", "IGNORED"}

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import httpx2
from psycopg.types.json import Jsonb

from latchflow.crypto import Keyring
from latchflow.key_material import new_encryption_key
from latchflow.store import places
from tests.support.api import Query, Wiring
from tests.support.plugins import PLUGIN

FIRED_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def add_event(
    query: Query, keyring: Keyring, trigger_id: str, *, fired_at: datetime = FIRED_AT, status: str = "RUNNING"
) -> UUID:
    event_id = uuid4()
    sealed = keyring.seal_json({"order": 7}, places.event_context(event_id))
    query(
        """
        INSERT INTO events (id, trigger_id, trigger_name, status, metadata, context_sealed, manifest, workflow_id,
                            fired_at)
        VALUES (%s, %s, 'orders', %s, '{"source": "test"}', %s, '{}', %s, %s)
        """,
        event_id, trigger_id, status, sealed, f"event:{event_id}", fired_at,
    )  # fmt: skip
    return event_id


def add_invocation(query: Query, keyring: Keyring, event_id: UUID, action_id: str) -> UUID:
    run_id, invocation_id = uuid4(), uuid4()
    query("INSERT INTO runs VALUES (%s, %s, %s, 'main', 0, 'RUNNING')", run_id, event_id, uuid4())
    query(
        """
        INSERT INTO invocations (id, event_id, run_id, step_id, step_name, ordinal, kind, action_id, action_version,
                                 plugin, capability_key, status, output_sealed)
        VALUES (%s, %s, %s, %s, 'mail', 0, 'action', %s, 1, %s, 'call', 'SUCCEEDED', %s)
        """,
        invocation_id, event_id, run_id, uuid4(), action_id, PLUGIN,
        keyring.seal_json({"sent": True}, places.invocation_output(invocation_id)),
    )  # fmt: skip
    for number, phase, error in ((1, "RETRYING", Jsonb({"type": "Retry", "message": "busy"})), (2, "SUCCEEDED", None)):
        query(
            """
            INSERT INTO attempts (workflow_run_id, activity_id, temporal_attempt, invocation_id, number, phase,
                                  started_at, ended_at, worker, plugin_version, code_hash, error)
            VALUES ('run', %s, %s, %s, %s, %s, now(), now(), '1@host', '1.0.0', 'c0de', %s)
            """,
            str(invocation_id), number, invocation_id, number, phase, error,
        )  # fmt: skip
    return invocation_id


async def test_an_event_is_one_document(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    trigger, action = await wiring.trigger(), await wiring.action()
    event_id = add_event(query, keyring, trigger["id"])
    invocation_id = add_invocation(query, keyring, event_id, action["id"])

    event = (await client.get(f"/admin/events/{event_id}")).json()

    assert set(event) == {
        "id",
        "triggerId",
        "triggerName",
        "status",
        "scheduledFor",
        "metadata",
        "invoker",
        "firedAt",
        "closedAt",
        "closedBy",
        "closedReason",
        "gate",
        "context",
        "deliveries",
        "workflowId",
        "temporalUrl",
        "rerunOf",
        "stuck",
        "runs",
    }
    assert event["firedAt"] == "2026-01-02T03:04:05.678901Z"
    assert event["context"] == {"order": 7}
    assert event["temporalUrl"] == f"http://temporal.example:8233/namespaces/default/workflows/event:{event_id}"
    (run,) = event["runs"]
    assert set(run) == {"id", "pipelineId", "pipelineName", "status", "invocations"}
    (invocation,) = run["invocations"]
    assert set(invocation) == {
        "id",
        "stepName",
        "index",
        "kind",
        "actionId",
        "capability",
        "status",
        "waitingFor",
        "approvers",
        "decision",
        "skippedReason",
        "error",
        "output",
        "nextAttemptAt",
        "attempts",
    }
    assert invocation["id"] == str(invocation_id)
    assert invocation["output"] == {"sent": True}
    assert invocation["capability"] == {"plugin": PLUGIN, "key": "call"}
    first, second = invocation["attempts"]
    assert set(first) == {
        "number",
        "phase",
        "lost",
        "startedAt",
        "endedAt",
        "worker",
        "pluginVersion",
        "codeHash",
        "progress",
        "error",
    }
    assert (first["number"], first["phase"], first["error"]) == (1, "RETRYING", {"type": "Retry", "message": "busy"})
    assert (second["number"], second["error"]) == (2, None)


async def test_lists_of_events_carry_no_context_and_no_runs(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    trigger, other = await wiring.trigger(), await wiring.trigger("other")
    event_id = add_event(query, keyring, trigger["id"])
    add_event(query, keyring, trigger["id"], status="FAILED")
    add_event(query, keyring, other["id"])

    listed = await client.get("/admin/events", params={"triggerId": trigger["id"], "status": "RUNNING"})
    of_trigger = await client.get(f"/admin/triggers/{trigger['id']}/events", params={"status": "RUNNING"})

    assert [event["id"] for event in listed.json()["items"]] == [str(event_id)]
    assert of_trigger.json()["items"] == listed.json()["items"]
    assert not {"context", "runs"} & set(listed.json()["items"][0])
    assert (await client.get(f"/admin/triggers/{uuid4()}/events")).status_code == 404
    assert (await client.get(f"/admin/events/{uuid4()}")).status_code == 404


async def test_events_of_the_same_moment_are_paged_newest_first_without_gaps(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    trigger = await wiring.trigger()
    for number in range(9):
        add_event(query, keyring, trigger["id"], fired_at=FIRED_AT + timedelta(microseconds=number // 4))

    seen: list[dict[str, str]] = []
    cursor = None
    while cursor is not None or not seen:
        page = await client.get("/admin/events", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        seen += page.json()["items"]
        cursor = page.json()["nextCursor"]

    assert len({event["id"] for event in seen}) == 9
    assert [event["firedAt"] for event in seen] == sorted((event["firedAt"] for event in seen), reverse=True)


async def test_executions_of_an_action_are_its_invocations_newest_first(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    trigger, action = await wiring.trigger(), await wiring.action()
    older = add_event(query, keyring, trigger["id"])
    newer = add_event(query, keyring, trigger["id"], fired_at=FIRED_AT + timedelta(seconds=1))
    for event_id in (older, newer):
        add_invocation(query, keyring, event_id, action["id"])

    path = f"/admin/actions/{action['id']}/executions"
    first = (await client.get(path, params={"limit": 1})).json()
    second = (await client.get(path, params={"limit": 1, "cursor": first["nextCursor"]})).json()

    assert [page["items"][0]["eventId"] for page in (first, second)] == [str(newer), str(older)]
    assert [attempt["number"] for attempt in first["items"][0]["attempts"]] == [1, 2]
    assert second["nextCursor"] is None
    assert (await client.get(f"/admin/actions/{uuid4()}/executions")).status_code == 404


async def test_a_context_sealed_with_a_lost_key_is_a_named_error(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query
) -> None:
    lost = Keyring.from_setting(new_encryption_key())
    event_id = add_event(query, lost, (await wiring.trigger())["id"])

    answer = await client.get(f"/admin/events/{event_id}")

    assert (answer.status_code, answer.json()["code"]) == (500, "seal")
    assert lost.writing_key_id in answer.json()["detail"]


async def test_an_output_too_large_for_the_document_shows_its_size(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    trigger, action = await wiring.trigger(), await wiring.action()
    event_id = add_event(query, keyring, trigger["id"])
    invocation_id = add_invocation(query, keyring, event_id, action["id"])
    query("UPDATE invocations SET output_sealed = %s RETURNING id", b"x" * (300 * 1024))

    invocation = (await client.get(f"/admin/events/{event_id}")).json()["runs"][0]["invocations"][0]

    assert invocation["output"] == {"ref": f"invocations/{invocation_id}/output", "size": 300 * 1024}

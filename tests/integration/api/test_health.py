from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx2
import pytest
from psycopg.types.json import Jsonb

from latchflow.crypto import Keyring
from tests.integration.api.test_events import add_event, add_invocation
from tests.support.api import Query, Wiring


@pytest.mark.parametrize(("number", "problem"), [(1, "1 accepted event has"), (2, "2 accepted events have")])
async def test_events_that_were_not_started_are_a_problem(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, number: int, problem: str
) -> None:
    trigger = await wiring.trigger()
    for _ in range(number):
        event_id = uuid4()
        manifest = {"event_id": str(event_id), "trigger_id": trigger["id"], "trigger_name": "orders", "runs": []}
        query(
            """
            INSERT INTO events (id, trigger_id, trigger_name, status, metadata, context_sealed, manifest, workflow_id,
                                fired_at)
            VALUES (%s, %s, 'orders', 'PENDING', '{}', '', %s, %s, %s)
            """,
            event_id, trigger["id"], Jsonb(manifest), f"event:{event_id}", datetime.now(UTC) - timedelta(seconds=6),
        )  # fmt: skip

    health = (await client.get("/system/plugin-runtime/health")).json()

    assert health["unstartedEvents"] == number
    assert [text for text in health["problems"] if problem in text and "over 5 seconds: " in text]


async def test_without_unstarted_events_there_is_no_problem_with_them(client: httpx2.AsyncClient) -> None:
    health = (await client.get("/system/plugin-runtime/health")).json()

    assert health["unstartedEvents"] == 0
    assert not [text for text in health["problems"] if "accepted event" in text and "started" in text]


async def test_steps_without_a_worker_that_has_their_plugin_are_a_problem(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    trigger, action = await wiring.trigger(), await wiring.action()
    add_invocation(query, keyring, add_event(query, keyring, trigger["id"]), action["id"])
    query("UPDATE invocations SET status = 'UNROUTED' RETURNING id")

    problems = (await client.get("/system/plugin-runtime/health")).json()["problems"]

    assert [text for text in problems if text.startswith("1 step waits for a worker that has their plugin")]


async def test_the_api_is_ready_while_the_database_answers(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["database"]) == (200, "ok")

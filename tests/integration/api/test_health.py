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
    query("UPDATE invocations SET status = 'UNROUTED', task_queue = 'latchflow-plugin-acme' RETURNING id")
    add_invocation(query, keyring, add_event(query, keyring, trigger["id"]), action["id"])
    query("UPDATE invocations SET status = 'UNROUTED' WHERE task_queue IS NULL RETURNING id")

    problems = (await client.get("/system/plugin-runtime/health")).json()["problems"]

    for queue in ("latchflow-plugin-acme", "latchflow"):
        start = f"1 step waits on the task queue {queue} for a worker that has their plugin"
        assert [text for text in problems if text.startswith(start)], problems


async def test_steps_on_a_queue_that_is_named_no_more_are_a_problem(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, keyring: Keyring
) -> None:
    trigger, action = await wiring.trigger(), await wiring.action()
    add_invocation(query, keyring, add_event(query, keyring, trigger["id"]), action["id"])
    query("UPDATE invocations SET task_queue = 'latchflow-plugin-acme-testing' RETURNING id")

    async def problems() -> list[str]:
        health = (await client.get("/system/plugin-runtime/health")).json()
        return [text for text in health["problems"] if "on the queue of" in text]

    (problem,) = await problems()
    assert problem.startswith("1 step waits on the queue of @acme/testing, which LATCHFLOW_DEDICATED_PLUGINS does not")
    query("UPDATE invocations SET ended_at = now() RETURNING id")
    assert await problems() == []


async def test_the_api_is_ready_while_the_database_answers(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/readyz")

    assert (answer.status_code, answer.json()["database"]) == (200, "ok")


async def test_threads_left_over_and_replaced_loops_are_shown_with_their_plugin_and_are_problems(
    client: httpx2.AsyncClient, query: Query
) -> None:
    now = datetime.now(UTC)
    loops = [
        {"plugin": "acme-slow", "times": 2, "lastPlace": "/x/__init__.py:7, in act", "lastAt": now.isoformat()},
        {"plugin": "acme-once", "times": 1, "lastPlace": "p", "lastAt": (now - timedelta(hours=2)).isoformat()},
    ]
    left = [{"plugin": "acme-slow", "capability": name, "since": now.isoformat()} for name in ("act", "act", None)]
    add_worker(query, leftoverThreads=3, leftover=left, replacedLoops=3, replaced=loops)

    health = (await client.get("/system/plugin-runtime/health")).json()

    (worker,) = [process for process in health["processes"] if process["role"] == "worker"]
    assert (worker["leftoverThreads"], worker["replacedLoops"], worker["dedicatedPlugin"]) == (3, 3, None)
    assert [thread["capability"] for thread in worker["leftover"]] == ["act", "act", None]
    assert worker["replaced"][0]["lastPlace"] == "/x/__init__.py:7, in act"
    threads, blocked = [text for text in health["problems"] if "1@here" in text]
    assert "3 threads live on" in threads
    assert threads.endswith("acme-slow (act), acme-slow (its blocked loop).")
    assert "acme-slow blocked its loop 2 times, the last time at /x/__init__.py:7, in act" in blocked


async def test_a_worker_of_one_plugin_is_no_worker_for_the_others(client: httpx2.AsyncClient, query: Query) -> None:
    add_worker(query, dedicatedPlugin="acme-slow")

    problems = (await client.get("/system/plugin-runtime/health")).json()["problems"]

    assert [text for text in problems if text.startswith("No worker reports")]


def add_worker(query: Query, **stats: object) -> None:
    query(
        """
        INSERT INTO processes (id, role, identity, host, pid, version, stats)
        VALUES (%s, 'worker', '1@here', 'here', 1, '1', %s) RETURNING id
        """,
        uuid4(),
        Jsonb(stats),
    )

"""Following an event, through real servers: a transport without a network would hold the stream back."""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from psycopg.types.json import Jsonb

from api.event_streams import MOST_STREAMS
from latchflow.crypto import Keyring
from latchflow.settings import Settings
from tests.integration.api.test_events import add_event
from tests.support.api import Query
from tests.support.api_process import ApiProcess
from tests.support.postgres import TestDatabase

pytestmark = pytest.mark.timeout(90)


@pytest.fixture
def apis(
    request: pytest.FixtureRequest, database: TestDatabase, settings: Settings, tmp_path: Path
) -> Iterator[list[ApiProcess]]:
    """One API process, or as many as the test asks for, on one database."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(getattr(request, "param", 1)):
            found.append(ApiProcess(database, tmp_path, settings.encryption_key.get_secret_value()))
            stack.callback(found[-1].close)
        yield found


two_processes = pytest.mark.parametrize("apis", [2], indirect=True, ids=["two processes"])


class Follower:
    """Reads a stream in a thread, as it comes."""

    def __init__(self, client: httpx2.Client, event_id: UUID, last: str | None = None) -> None:
        self.messages: list[tuple[str, dict[str, Any]]] = []
        self.comments = 0
        self.status = 0
        self.has_ended = threading.Event()
        self._arrived = threading.Condition()
        self._headers = {"Last-Event-ID": last} if last else {}
        self._client = client
        self._path = f"/admin/events/{event_id}/stream"
        threading.Thread(target=self._read, daemon=True).start()

    def message(self, number: int, within: float) -> tuple[str, dict[str, Any]]:
        """One of its messages, once it is there."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.messages) >= number, within), f"not within {within} s"
        return self.messages[number - 1]

    def _read(self) -> None:
        fields: dict[str, str] = {}
        stream = self._client.stream("GET", self._path, headers=self._headers)
        with contextlib.suppress(httpx2.HTTPError), stream as answer:
            self.status = answer.status_code
            for line in answer.iter_lines():
                name, _, value = line.partition(": ")
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    fields[name] = value
                elif "data" in fields:
                    with self._arrived:
                        self.messages.append((fields["id"], json.loads(fields["data"])))
                        self._arrived.notify_all()
                    fields = {}
        self.has_ended.set()


def _invocation(query: Query, event_id: UUID, run_id: UUID) -> UUID:
    invocation_id = uuid4()
    query(
        """
        INSERT INTO invocations (id, event_id, run_id, step_id, step_name, ordinal, kind, action_id, action_version,
                                 plugin, capability_key, status)
        VALUES (%s, %s, %s, %s, 'mail', 0, 'action', %s, 1, 'acme', 'call', 'PENDING')
        """,
        invocation_id, event_id, run_id, uuid4(), uuid4(),
    )  # fmt: skip
    return invocation_id


def _move(query: Query, event_id: UUID, invocation_id: UUID, status: str) -> None:
    """As every statement does it: the fact and its audit entry at once."""
    query(
        """
        WITH moved AS (UPDATE invocations SET status = %s WHERE id = %s)
        INSERT INTO audit_entries (kind, phase, trigger_event_id, invocation_id, detail)
        VALUES ('action', 'STARTED', %s, %s, %s)
        """,
        status, invocation_id, event_id, invocation_id, Jsonb({}),
    )  # fmt: skip


@pytest.fixture
def event_id(apis: list[ApiProcess], query: Query, keyring: Keyring) -> UUID:
    return add_event(query, keyring, str(uuid4()))


@two_processes
def test_every_process_shows_a_change_within_a_second_and_the_stream_ends_with_the_event(
    apis: list[ApiProcess], query: Query, event_id: UUID
) -> None:
    run_id = uuid4()
    query("INSERT INTO runs VALUES (%s, %s, %s, 'main', 0, 'RUNNING')", run_id, event_id, uuid4())
    invocation_id = _invocation(query, event_id, run_id)
    followers = [Follower(api.client, event_id) for api in apis]
    first = [follower.message(1, 10) for follower in followers]
    time.sleep(1)  # streams at rest, as they mostly are
    _move(query, event_id, invocation_id, "RUNNING")
    second = [follower.message(2, 1) for follower in followers]
    query("UPDATE runs SET status = 'SUCCEEDED', closed_at = now() WHERE id = %s", run_id)
    third = [follower.message(3, 1) for follower in followers]
    query("UPDATE events SET status = 'SUCCEEDED', closed_at = now(), closed_by = 'workflow' WHERE id = %s", event_id)
    last = [follower.message(4, 1) for follower in followers]

    assert all(follower.has_ended.wait(3) for follower in followers)
    assert [follower.status for follower in followers] == [200, 200]
    assert first[0] == first[1]
    assert first[0][1]["runs"][0]["invocations"][0]["status"] == "PENDING"
    assert second[0] == second[1]
    assert second[0][1]["runs"][0]["invocations"][0]["status"] == "RUNNING"
    assert third[0][1]["runs"][0]["status"] == "SUCCEEDED"
    assert last[0][1] == apis[0].client.get(f"/admin/events/{event_id}").json()
    assert [len(follower.messages) for follower in followers] == [4, 4], "each state once"
    assert len({version for version, _ in followers[0].messages}) == 4


@two_processes
def test_a_follower_that_comes_back_gets_nothing_that_it_saw_also_from_another_process(
    apis: list[ApiProcess], query: Query, event_id: UUID
) -> None:
    seen, _ = Follower(apis[0].client, event_id).message(1, 10)
    query("UPDATE events SET next_check_at = now() WHERE id = %s", event_id)  # of no document
    same, back = Follower(apis[1].client, event_id, seen), Follower(apis[1].client, event_id, "something else")
    back.message(1, 10)
    time.sleep(1.2)

    assert same.messages == []
    query("UPDATE events SET is_stuck = true WHERE id = %s", event_id)
    version, document = same.message(1, 1)
    assert version != seen
    assert document["stuck"] is True
    query("UPDATE events SET status = 'FAILED', closed_at = now() WHERE id = %s", event_id)
    version, _ = same.message(2, 1)
    answer = apis[0].client.get(f"/admin/events/{event_id}/stream", headers={"Last-Event-ID": version})
    assert (answer.status_code, answer.content) == (204, b"")


def test_too_many_streams_are_refused_and_one_that_goes_makes_room(apis: list[ApiProcess], event_id: UUID) -> None:
    path = f"/admin/events/{event_id}/stream"
    limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    headers = {"Authorization": apis[0].client.headers["Authorization"]}
    with httpx2.Client(base_url=apis[0].url, headers=headers, trust_env=False, limits=limits, timeout=30) as client:
        with contextlib.ExitStack() as streams:
            for _ in range(MOST_STREAMS):
                answer = streams.enter_context(client.stream("GET", path))
                assert answer.status_code == 200
            refused = client.get(path)
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        deadline = time.monotonic() + 5
        while True:
            with client.stream("GET", path) as answer:
                if answer.status_code == 200:
                    break
            assert time.monotonic() < deadline, "clients that went away hold their places"


def test_a_token_that_is_revoked_ends_its_stream_and_what_it_may_not_see_is_not_there(
    apis: list[ApiProcess], query: Query, event_id: UUID
) -> None:
    made = apis[0].client.post("/admin/tokens", json={"name": "reader", "scopes": ["events:read"]}).json()
    headers = {"Authorization": f"Bearer {made['token']}"}
    other = apis[0].client.post("/admin/tokens", json={"name": "other", "scopes": ["audit:read"]}).json()
    with httpx2.Client(base_url=apis[0].url, headers=headers, trust_env=False, timeout=30) as client:
        follower = Follower(client, event_id)
        follower.message(1, 10)
        apis[0].client.delete(f"/admin/tokens/{made['id']}")
        query("UPDATE events SET is_stuck = true WHERE id = %s", event_id)

        assert follower.has_ended.wait(3)
        assert len(follower.messages) == 1
    forbidden = httpx2.get(
        f"{apis[0].url}/admin/events/{event_id}/stream",
        headers={"Authorization": f"Bearer {other['token']}"},
        trust_env=False,
    )
    assert forbidden.status_code == 403
    assert apis[0].client.get(f"/admin/events/{uuid4()}/stream").status_code == 404


def test_an_api_that_stops_does_not_wait_for_its_streams(apis: list[ApiProcess], event_id: UUID) -> None:
    follower = Follower(apis[0].client, event_id)
    follower.message(1, 10)
    started = time.monotonic()
    apis[0].terminate()

    assert follower.has_ended.wait(4)
    assert time.monotonic() - started < 4


def test_an_executor_follows_only_the_runs_that_it_may_see(
    apis: list[ApiProcess], query: Query, keyring: Keyring
) -> None:
    event_id, mine = add_event(query, keyring, str(uuid4())), uuid4()
    hidden = add_event(query, keyring, str(uuid4()))
    for pipeline_id, name in ((mine, "mine"), (uuid4(), "not mine")):
        query("INSERT INTO runs VALUES (%s, %s, %s, %s, 0, 'RUNNING')", uuid4(), event_id, pipeline_id, name)
    token = apis[0].client.post("/admin/tokens", json={"name": "e", "scopes": ["events:read"]}).json()
    query(
        """
        INSERT INTO users (id, email, role, status, created_by, pipeline_ids)
        VALUES (%s, 'e@example.org', 'EXECUTOR', 'ACTIVE', 'test', ARRAY[%s::uuid])
        """,
        UUID(int=7), mine,
    )  # fmt: skip
    query("UPDATE tokens SET user_id = %s, owner_id = %s WHERE id = %s", UUID(int=7), UUID(int=7), token["id"])
    headers = {"Authorization": f"Bearer {token['token']}"}
    with httpx2.Client(base_url=apis[0].url, headers=headers, trust_env=False, timeout=30) as client:
        _, document = Follower(client, event_id).message(1, 10)

        assert [run["pipelineName"] for run in document["runs"]] == ["mine"]
        assert client.get(f"/admin/events/{hidden}/stream").status_code == 404
        query("UPDATE events SET status = 'FAILED', closed_at = now() WHERE id = %s", event_id)

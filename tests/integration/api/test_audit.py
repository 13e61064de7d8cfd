from datetime import UTC, datetime
from typing import Any

import httpx2
import psycopg
import pytest
from psycopg import errors

from tests.support.api import Query, Wiring
from tests.support.postgres import TestDatabase

ADD = "INSERT INTO audit_entries (kind, actor) VALUES ('service', %s)"


async def listed(client: httpx2.AsyncClient, **filters: Any) -> list[dict[str, Any]]:
    answer = await client.get("/admin/audit", params=filters)
    assert answer.status_code == 200, answer.text
    items: list[dict[str, Any]] = answer.json()["items"]
    return items


async def test_each_change_is_audited_with_its_actor_and_fields(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query
) -> None:
    trigger = await wiring.trigger()
    path = f"/admin/triggers/{trigger['id']}"
    await client.patch(path, json={"isEnabled": False}, headers={"If-Match": "*"})
    await client.delete(path, headers={"If-Match": "*"})

    entries = await listed(client, triggerDefinitionId=trigger["id"])

    assert set(entries[0]) == {
        "seq",
        "timestamp",
        "kind",
        "phase",
        "pluginName",
        "capabilityKey",
        "triggerDefinitionId",
        "triggerEventId",
        "actionDefinitionId",
        "invocationId",
        "attempt",
        "actor",
        "detail",
    }
    token_id = str(query("SELECT id FROM tokens")[0]["id"])
    assert [entry["detail"] for entry in entries] == [
        {
            "object": "trigger",
            "id": trigger["id"],
            "name": "orders",
            "operation": operation,
            "fields": fields,
            "version": version,
            "caller": {"tokenId": token_id},
        }
        for operation, fields, version in [
            ("create", ["name", "capabilityId", "config", "isEnabled", "overlap", "maxRunningEvents"], 1),
            ("update", ["isEnabled"], 2),
            ("delete", [], 2),
        ]
    ]
    assert {(entry["kind"], entry["actor"]) for entry in entries} == {("admin", "bootstrap")}


async def test_a_change_that_fails_leaves_no_entry(
    client: httpx2.AsyncClient, wiring: Wiring, database: TestDatabase, query: Query
) -> None:
    query(
        """
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no audit today'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON audit_entries FOR EACH ROW EXECUTE FUNCTION refuse();
        """
    )

    answer = await client.post("/admin/pipelines", json={"name": "x"})

    assert answer.status_code == 500
    assert query("SELECT 1 FROM pipelines") == []


async def test_filters_narrow_the_list(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    before = datetime.now(UTC).isoformat()
    await wiring.trigger()
    action = await wiring.action()
    middle = datetime.now(UTC).isoformat()
    await wiring.pipeline()

    assert [entry["detail"]["object"] for entry in await listed(client, **{"from": before, "to": middle})] == [
        "trigger",
        "action",
    ]
    assert [entry["detail"]["object"] for entry in await listed(client, **{"from": middle})] == ["pipeline"]
    assert [entry["detail"]["id"] for entry in await listed(client, actionDefinitionId=action["id"])] == [action["id"]]
    assert len(await listed(client, pluginName="@acme/testing", kind="admin", actor="bootstrap")) == 2
    assert await listed(client, phase="FAILED") == []
    assert await listed(client, kind="crypto") == []


async def test_pages_of_the_audit_follow_each_other_by_seq(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    for number in range(5):
        await wiring.pipeline(f"pipeline {number}")

    seen: list[int] = []
    cursor = None
    while cursor is not None or not seen:
        page = await client.get("/admin/audit", params={"limit": 2} | ({"cursor": cursor} if cursor else {}))
        seen += [entry["seq"] for entry in page.json()["items"]]
        cursor = page.json()["nextCursor"]

    assert seen == sorted(set(seen))
    assert len(seen) == 6


async def test_a_reader_stops_below_the_oldest_writer_still_open(
    client: httpx2.AsyncClient, database: TestDatabase
) -> None:
    with (
        psycopg.connect(database.url) as early,
        psycopg.connect(database.url) as slow,
        psycopg.connect(database.url) as quick,
    ):
        early.execute(ADD, ("early",))
        early.commit()
        # The quick one's transaction is the older of the two; the slow one takes its seq first.
        quick.execute("SELECT pg_current_xact_id()")
        slow.execute(ADD, ("slow",))
        quick.execute(ADD, ("quick",))
        quick.commit()
        during = [entry["actor"] for entry in await listed(client, kind="service")]
        slow.commit()

    assert during == ["early"]
    assert [entry["actor"] for entry in await listed(client, kind="service")] == ["early", "slow", "quick"]


@pytest.mark.parametrize(
    "statement", ["UPDATE audit_entries SET actor = 'x'", "DELETE FROM audit_entries", "TRUNCATE audit_entries"]
)
async def test_the_applications_role_can_only_add_to_the_audit(
    client: httpx2.AsyncClient, database: TestDatabase, statement: str
) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(ADD, ("me",))

        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())

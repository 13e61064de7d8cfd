from typing import Any
from uuid import uuid4

import httpx2
import pytest

from latchflow.crypto import Keyring
from latchflow.names import capability_id
from latchflow.settings import Settings
from latchflow.store import places
from tests.support.api import Query, Wiring, pointers
from tests.support.plugins import PLUGIN, add_plugin
from tests.support.postgres import TestDatabase

ANY = {"If-Match": "*"}


async def test_a_definition_is_created_read_changed_and_deleted(client: httpx2.AsyncClient) -> None:
    body = {
        "name": "orders",
        "capabilityId": str(capability_id(PLUGIN, "TRIGGER", "inbound")),
        "config": {"verification": "none"},
    }
    created = await client.post("/admin/triggers", json=body)
    path = f"/admin/triggers/{created.json()['id']}"
    read = await client.get(path)
    changed = await client.patch(path, json={"isEnabled": False}, headers={"If-Match": read.headers["ETag"]})
    deleted = await client.delete(path, headers={"If-Match": changed.headers["ETag"]})

    assert (created.status_code, created.headers["ETag"]) == (201, '"1"')
    assert read.json() == created.json()
    assert read.json()["createdAt"].endswith("Z")
    assert len(read.json()["createdAt"]) == len("2026-01-01T00:00:00.000000Z")
    assert (changed.status_code, changed.headers["ETag"]) == (200, '"2"')
    assert changed.json()["isEnabled"] is False
    assert deleted.status_code == 204
    assert (await client.get(path)).status_code == 404


async def test_every_version_of_an_action_is_kept_and_opens_at_its_place(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, settings: Settings
) -> None:
    action = await wiring.action(retryPolicy={"maxAttempts": 3}, timeoutSeconds=30)
    await client.patch(f"/admin/actions/{action['id']}", json={"name": "other", "timeoutSeconds": None}, headers=ANY)

    keyring = Keyring.from_setting(settings.encryption_key.get_secret_value())
    rows = query("SELECT * FROM action_versions ORDER BY version")
    assert [row["version"] for row in rows] == [1, 2]
    assert rows[0]["config_sealed"] == rows[1]["config_sealed"]
    place = places.action_config(rows[0]["action_id"], PLUGIN)
    assert keyring.open_json(rows[1]["config_sealed"], place)["apiKey"] == "action-secret"
    stored = query("SELECT * FROM action_definitions")[0]
    assert stored["timeout_seconds"] is None
    assert stored["retry_policy"]["max_attempts"] == 3


@pytest.mark.parametrize("method", ["patch", "delete"])
async def test_a_change_without_if_match_is_428_and_a_lost_one_412(
    client: httpx2.AsyncClient, wiring: Wiring, method: str
) -> None:
    path = f"/admin/triggers/{(await wiring.trigger())['id']}"
    body: dict[str, Any] = {"json": {"isEnabled": False}} if method == "patch" else {}

    missing = await client.request(method, path, **body)
    lost = [await client.request(method, path, headers={"If-Match": tag}, **body) for tag in ('"7"', 'W/"1"', "1", "x")]

    assert (missing.status_code, missing.json()["code"]) == (428, "precondition_required")
    assert [answer.status_code for answer in lost] == [412] * 4
    assert (await client.request(method, path, headers={"If-Match": '"7", "1"'}, **body)).is_success


async def test_what_follows_an_unknown_outcome_is_kept_with_each_version(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query
) -> None:
    cautious = await wiring.action("cautious")
    action = await wiring.action("bold", onUnknown="resend")
    path = f"/admin/actions/{action['id']}"

    renamed = await client.patch(path, json={"name": "other"}, headers=ANY)
    changed = await client.patch(path, json={"onUnknown": "fail"}, headers=ANY)
    refused = await client.patch(path, json={"onUnknown": "perhaps"}, headers=ANY)

    assert (cautious["onUnknown"], action["onUnknown"]) == ("fail", "resend")
    assert (renamed.json()["onUnknown"], changed.json()["onUnknown"]) == ("resend", "fail")
    assert (await client.get(path)).json()["onUnknown"] == "fail"
    assert (refused.status_code, pointers(refused)) == (422, ["/onUnknown"])
    versions = query(
        "SELECT version, on_unknown FROM action_versions WHERE action_id = %s ORDER BY version", action["id"]
    )
    assert [row["on_unknown"] for row in versions] == ["resend", "resend", "fail"]


async def test_secrets_are_never_returned_and_a_mask_keeps_them(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, settings: Settings
) -> None:
    config = {"url": "https://example.org", "apiKey": "top-secret", "login": {"user": "u", "password": "pass-word"}}
    action = await wiring.action(config=config)
    path = f"/admin/actions/{action['id']}"
    masked = action["config"]

    kept = await client.patch(path, json={"config": {**masked, "count": 2, "apiKey": "new-secret"}}, headers=ANY)
    texts = [kept.text, (await client.get(path)).text, (await client.get("/admin/actions")).text]

    assert masked == {
        "url": "https://example.org",
        "apiKey": "********",
        "login": "********",
    }
    assert not any(secret in text for text in texts for secret in ("top-secret", "pass-word", "new-secret"))
    keyring = Keyring.from_setting(settings.encryption_key.get_secret_value())
    (row,) = query("SELECT * FROM action_definitions")
    opened = keyring.open_json(row["config_sealed"], places.action_config(row["id"], PLUGIN))
    assert opened["login"]["password"] == "pass-word"
    assert opened["apiKey"] == "new-secret"
    audit = str(query("SELECT * FROM audit_entries"))
    assert "secret" not in audit.replace("secrets", "")


async def test_a_mask_without_a_stored_secret_is_422(client: httpx2.AsyncClient) -> None:
    body = {
        "name": "x",
        "capability": {"plugin": PLUGIN, "key": "call"},
        "config": {"url": "https://example.org", "apiKey": "********"},
    }

    answer = await client.post("/admin/actions", json=body)

    assert (answer.status_code, pointers(answer)) == (422, ["/config/apiKey"])


async def test_a_config_against_its_schema_is_422_with_pointers(client: httpx2.AsyncClient) -> None:
    config = {"url": "not a uri", "count": 0, "apiKey": "short", "colour": 1}
    body = {"name": "x", "capability": {"plugin": PLUGIN, "key": "call"}, "config": config}

    wrong = await client.post("/admin/actions", json=body)
    missing = await client.post("/admin/actions", json={**body, "config": {}})

    assert wrong.status_code == missing.status_code == 422
    assert pointers(wrong) == ["/config/apiKey", "/config/colour", "/config/count", "/config/url"]
    assert pointers(missing) == ["/config/url"]


async def test_a_capability_that_cannot_be_used_is_422(client: httpx2.AsyncClient, database: TestDatabase) -> None:
    add_plugin(database.owner_url, "@acme/disabled", status="DISABLED")
    trigger = str(capability_id(PLUGIN, "TRIGGER", "inbound"))
    body = {"name": "x", "config": {"url": "https://example.org"}}

    unknown = await client.post("/admin/actions", json={**body, "capabilityId": str(uuid4())})
    other_kind = await client.post("/admin/actions", json={**body, "capabilityId": trigger})
    disabled = await client.post(
        "/admin/actions", json={**body, "capability": {"plugin": "@acme/disabled", "key": "call"}}
    )
    neither = await client.post("/admin/actions", json=body)

    assert (unknown.status_code, pointers(unknown)) == (422, ["/capabilityId"])
    assert (other_kind.status_code, pointers(other_kind)) == (422, ["/capabilityId"])
    assert (disabled.status_code, pointers(disabled)) == (422, ["/capability"])
    assert "DISABLED" in disabled.json()["detail"]
    assert neither.status_code == 422


@pytest.mark.parametrize(
    "option", [{"timeoutSeconds": 0}, {"timeoutSeconds": 116}, {"retryPolicy": {"maxAttempts": 0}}]
)
async def test_options_outside_their_bounds_are_422(client: httpx2.AsyncClient, option: dict[str, Any]) -> None:
    body = {"name": "x", "capability": {"plugin": PLUGIN, "key": "call"}, "config": {"url": "https://example.org"}}

    assert (await client.post("/admin/actions", json=body | option)).status_code == 422


async def test_a_name_is_unique_per_kind(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    await wiring.trigger("same")
    other = await wiring.trigger("other")
    await wiring.action("same")
    body = {"name": "same", "capability": {"plugin": PLUGIN, "key": "inbound"}, "config": {"verification": "none"}}

    created = await client.post("/admin/triggers", json=body)
    renamed = await client.patch(f"/admin/triggers/{other['id']}", json={"name": "same"}, headers=ANY)

    assert (created.status_code, renamed.status_code) == (409, 409)


@pytest.mark.parametrize(("kind", "part"), [("trigger", "triggers"), ("action", "steps")])
async def test_what_pipelines_use_is_deleted_only_with_cascade(
    client: httpx2.AsyncClient, wiring: Wiring, query: Query, kind: str, part: str
) -> None:
    trigger, action = await wiring.trigger(), await wiring.action()
    pipeline = await wiring.pipeline(
        "the user", triggers=[{"triggerId": trigger["id"]}], steps=[{"name": "one", "actionId": action["id"]}]
    )
    path = f"/admin/{kind}s/{(trigger if kind == 'trigger' else action)['id']}"

    refused = await client.delete(path, headers=ANY)
    cascaded = await client.delete(path, params={"cascade": "true"}, headers=ANY)
    left = await client.get(f"/admin/pipelines/{pipeline['id']}")

    assert refused.status_code == 409
    assert "the user" in refused.json()["detail"]
    assert cascaded.status_code == 204
    assert left.json()[part] == []
    assert left.headers["ETag"] == '"2"'
    entries = query("SELECT detail FROM audit_entries WHERE kind = 'admin' ORDER BY seq DESC LIMIT 2")
    assert [entry["detail"]["object"] for entry in entries] == [kind, "pipeline"]


async def test_an_empty_change_changes_nothing(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    trigger = await wiring.trigger()

    answer = await client.patch(f"/admin/triggers/{trigger['id']}", json={}, headers={"If-Match": '"1"'})

    assert (answer.status_code, answer.headers["ETag"]) == (200, '"1"')
    assert answer.json() == trigger


async def test_pages_follow_each_other_without_gaps(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    names = [f"trigger {number}" for number in range(7)]
    for name in names:
        await wiring.trigger(name)

    seen: list[str] = []
    cursor = None
    while True:
        page = await client.get("/admin/triggers", params={"limit": 3} | ({"cursor": cursor} if cursor else {}))
        seen += [item["name"] for item in page.json()["items"]]
        cursor = page.json()["nextCursor"]
        if cursor is None:
            break

    assert seen == names


async def test_an_edited_cursor_and_one_of_another_list_are_422(client: httpx2.AsyncClient, wiring: Wiring) -> None:
    for number in range(3):
        await wiring.trigger(f"trigger {number}")
    cursor = (await client.get("/admin/triggers?limit=1")).json()["nextCursor"]
    edited = [cursor[:-1], cursor + "A", "A" + cursor[1:], cursor[:20] + "x" + cursor[21:], "", "é"]

    answers = [await client.get("/admin/triggers", params={"cursor": text}) for text in edited]
    answers.append(await client.get("/admin/actions", params={"cursor": cursor}))

    assert [answer.status_code for answer in answers] == [422] * 7
    assert {tuple(pointers(answer)) for answer in answers} == {("/cursor",)}


async def test_plugins_show_capabilities_and_processes(client: httpx2.AsyncClient, query: Query) -> None:
    query(
        """
        INSERT INTO processes (id, role, identity, host, pid, version)
        VALUES (gen_random_uuid(), 'worker', '1@h', 'h', 1, '1'),
               (gen_random_uuid(), 'worker', 'dead@h', 'h', 2, '1')
        """
    )
    query(
        """
        INSERT INTO plugin_instances SELECT p.id, g.id, '1.0.0', 'c0de' FROM processes p, plugins g
        WHERE p.role = 'worker' AND g.name = %s
        """,
        PLUGIN,
    )

    query("UPDATE processes SET seen_at = now() - interval '16 seconds' WHERE identity = 'dead@h'")

    items = (await client.get("/admin/plugins")).json()["items"]
    (listed,) = (item for item in items if item["name"] == PLUGIN)
    read = (await client.get(f"/admin/plugins/{listed['id']}")).json()

    assert {**read, "instances": []} == {**listed, "instances": []}
    assert [(one["kind"], one["key"]) for one in listed["capabilities"]] == [("ACTION", "call"), ("TRIGGER", "inbound")]
    loaded = [instance for instance in read["instances"] if instance["state"] == "loaded"]
    assert [instance["identity"] for instance in loaded] == ["1@h"]
    assert listed["providers"] == []
    assert (await client.get(f"/admin/plugins/{uuid4()}")).status_code == 404


async def test_templates_in_a_config_are_compiled_when_saved(client: httpx2.AsyncClient) -> None:
    config = {"url": "https://example.org", "values": {"total": "event.context.total +", "deep": ["1", "x +"]}}
    body = {"name": "x", "capability": {"plugin": PLUGIN, "key": "call"}, "config": config}

    answer = await client.post("/admin/actions", json=body)

    assert (answer.status_code, pointers(answer)) == (422, ["/config/values/total", "/config/values/deep/1"])

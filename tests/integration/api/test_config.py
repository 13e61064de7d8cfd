from typing import Any

import httpx2
import pytest
from psycopg.types.json import Jsonb

from latchflow.names import plugin_id
from tests.support.api import Query, ScopedClient, pointers
from tests.support.mail_server import Mailbox, mail_server
from tests.support.plugins import PLUGIN

KEY = "PLUGIN_ACME_TESTING_PROVIDER_LETTERS"
SCHEMA = {
    "type": "object",
    "properties": {
        "office": {"type": "string", "minLength": 2},
        "stamps": {"type": "integer"},
        "password": {"type": "string", "minLength": 4, "writeOnly": True},
    },
    "required": ["office", "password"],
    "additionalProperties": False,
}
DEFAULTS = {"office": "ACME_OFFICE", "password": "ACME_PASSWORD", "stamps": "ACME_STAMPS"}
CONFIG = {"office": "Main Street", "password": "hunter2-hunter2"}


@pytest.fixture(autouse=True)
def provider(client: httpx2.AsyncClient, query: Query) -> None:
    query(
        "INSERT INTO providers VALUES (%s, 'email', 'letters', 'Letters', %s, %s)",
        plugin_id(PLUGIN),
        Jsonb(SCHEMA),
        Jsonb(DEFAULTS),
    )


async def put(client: httpx2.AsyncClient, key: str, value: Any, **more: Any) -> httpx2.Response:
    return await client.put(f"/system/config/{key}", json={"value": value, **more})


async def get(client: httpx2.AsyncClient, key: str) -> dict[str, Any]:
    answer = await client.get(f"/system/config/{key}")
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


async def test_every_key_is_listed_configured_or_not(client: httpx2.AsyncClient) -> None:
    answer = await client.get("/system/config")

    items = answer.json()["items"]
    assert [item["key"] for item in items] == ["HTTP_EGRESS_ALLOW", KEY, "SMTP_FROM", "SMTP_URL"]
    assert {(item["value"], item["source"], item["isSecret"]) for item in items} == {(None, None, False)}


async def test_the_list_has_pages(client: httpx2.AsyncClient) -> None:
    first = (await client.get("/system/config?limit=3")).json()
    second = (await client.get(f"/system/config?limit=3&cursor={first['nextCursor']}")).json()

    assert [item["key"] for item in first["items"] + second["items"]][-1] == "SMTP_URL"
    assert second["nextCursor"] is None


async def test_a_value_is_stored_sealed_and_audited_without_it(client: httpx2.AsyncClient, query: Query) -> None:
    answer = await put(client, "SMTP_FROM", "Bot <bot@example.org>")

    assert answer.status_code == 200
    assert answer.json()["value"] == "Bot <bot@example.org>"
    assert answer.json()["source"] == "database"
    assert answer.json()["updatedBy"] == "bootstrap"
    (row,) = query("SELECT value_sealed FROM system_config")
    assert b"example" not in bytes(row["value_sealed"])
    (entry,) = query("SELECT actor, detail FROM audit_entries WHERE kind = 'admin' AND detail->>'object' = 'config'")
    assert entry["detail"].pop("caller") == {"tokenId": str(query("SELECT id FROM tokens")[0]["id"])}
    assert entry["detail"] == {"object": "config", "name": "SMTP_FROM", "operation": "create", "fields": ["value"]}


async def test_a_config_shows_its_secrets_masked_and_names_its_fields_in_the_audit(
    client: httpx2.AsyncClient, query: Query
) -> None:
    answer = await put(client, KEY, CONFIG)

    assert answer.json()["value"] == {"office": "Main Street", "password": "********"}
    assert answer.json()["fields"] == {"office": "database", "password": "database"}
    (entry,) = query("SELECT detail FROM audit_entries WHERE detail->>'object' = 'config'")
    assert entry["detail"]["fields"] == ["office", "password"]
    assert "hunter2" not in str(entry)


async def test_a_masked_secret_is_kept(client: httpx2.AsyncClient, app: Any) -> None:
    await put(client, KEY, CONFIG)

    await put(client, KEY, {"office": "Side Street", "password": "********"})

    stored = await app.state.context.services.config.stored([KEY])
    assert stored[KEY] == {"office": "Side Street", "password": "hunter2-hunter2"}


@pytest.mark.parametrize("stored", [True, False])
async def test_a_secret_that_is_kept_follows_no_changed_address(
    client: httpx2.AsyncClient, query: Query, monkeypatch: pytest.MonkeyPatch, stored: bool
) -> None:
    properties: Any = SCHEMA["properties"]
    schema = {**SCHEMA, "properties": {**properties, "apiUrl": {"type": "string"}}}
    query("UPDATE providers SET config_schema = %s", Jsonb(schema))
    evil = {"office": "Main Street", "apiUrl": "https://evil.example"}
    if stored:
        await put(client, KEY, CONFIG)
        evil["password"] = "********"
    else:
        monkeypatch.setenv("ACME_PASSWORD", "hunter2-hunter2")

    changed = await put(client, KEY, evil)
    tried = await client.post("/system/config/test", json={"key": KEY, "value": evil})

    assert changed.status_code == 422
    assert changed.json()["errors"][0]["pointer"] == "/value/apiUrl"
    assert "evil" not in str((await get(client, KEY))["value"])
    assert tried.json()["ok"] is False
    assert "elsewhere" in tried.json()["message"]
    assert (await put(client, KEY, {**evil, "password": "another-secret"})).status_code == 200


async def test_a_password_in_a_url_is_masked_and_kept_for_the_same_server_only(
    client: httpx2.AsyncClient, app: Any
) -> None:
    await put(client, "SMTP_URL", "smtp://me:p%40ss@mail.example.org:25")

    shown = (await get(client, "SMTP_URL"))["value"]
    kept = await put(client, "SMTP_URL", shown)
    moved = await put(client, "SMTP_URL", shown.replace("mail.example.org", "evil.example.net"))

    assert shown == "smtp://me:********@mail.example.org:25"
    assert kept.status_code == 200
    assert moved.status_code == 422
    assert pointers(moved) == ["/value"]
    assert await app.state.context.services.config.smtp() == ("smtp://me:p%40ss@mail.example.org:25", "")


async def test_a_value_that_is_secret_is_hidden_whole_and_comes_out_no_more(client: httpx2.AsyncClient) -> None:
    await put(client, KEY, CONFIG, isSecret=True)

    hidden = await get(client, KEY)
    kept = await put(client, KEY, "********")
    shown = await put(client, KEY, "********", isSecret=False)
    part = await put(client, KEY, {"office": "Elsewhere", "password": "********"}, isSecret=False)

    assert hidden["value"] == "********"
    assert kept.status_code == 200
    assert kept.json()["isSecret"] is True
    assert (shown.status_code, part.status_code) == (422, 422)
    assert (await get(client, KEY))["value"] == "********"


async def test_the_environment_stands_in_field_by_field(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_PASSWORD", "from-the-environment")
    monkeypatch.setenv("ACME_STAMPS", "3")

    before = await get(client, KEY)
    await put(client, KEY, {"office": "Main Street"})
    after = await get(client, KEY)

    assert (before["source"], before["fields"]) == ("env", {"password": "env", "stamps": "env"})
    assert before["problem"] == "/office: This property is required."
    assert after["value"] == {"office": "Main Street", "password": "********", "stamps": 3}
    assert after["fields"] == {"office": "database", "password": "env", "stamps": "env"}
    assert (after["source"], after["problem"]) == ("database", None)


async def test_a_mask_that_stands_for_the_environment_leaves_it_there(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACME_PASSWORD", "from-the-environment")

    answer = await put(client, KEY, {"office": "Main Street", "password": "********"})

    assert answer.json()["fields"] == {"office": "database", "password": "env"}


@pytest.mark.parametrize(
    ("key", "value", "pointer"),
    [
        ("SMTP_URL", "http://mail", "/value"),
        ("SMTP_URL", "smtp://me:********@mail", "/value"),
        ("SMTP_URL", "", "/value"),
        ("SMTP_URL", None, "/value"),
        ("SMTP_FROM", "nobody", "/value"),
        ("SMTP_FROM", 7, "/value"),
        ("HTTP_EGRESS_ALLOW", "10.0.0.1/8", "/value"),
        (KEY, "text", "/value"),
        (KEY, {"office": "x"}, "/value/office"),
        (KEY, {"ofice": "Main Street"}, "/value/ofice"),
        (KEY, {"password": "********"}, "/value/password"),
    ],
)
async def test_a_value_that_cannot_be_used_is_refused(
    client: httpx2.AsyncClient, query: Query, key: str, value: Any, pointer: str
) -> None:
    answer = await put(client, key, value)

    assert answer.status_code == 422
    assert pointer in pointers(answer)
    assert query("SELECT key FROM system_config") == []


@pytest.mark.parametrize("key", ["DATABASE_URL", "PLUGIN_ACME_TESTING_PROVIDER_OTHER", "smtp_url", "a~b"])
async def test_there_is_no_other_key(client: httpx2.AsyncClient, key: str) -> None:
    answers = [
        await client.get(f"/system/config/{key}"),
        await put(client, key, "x"),
        await client.delete(f"/system/config/{key}"),
        await client.put("/system/config", json={key: {"value": "x"}}),
        await client.post("/system/config/test", json={"key": key}),
    ]

    assert [answer.status_code for answer in answers] == [422] * 5
    assert "SMTP_URL" in answers[0].text


async def test_several_keys_change_together_or_not_at_all(client: httpx2.AsyncClient, query: Query) -> None:
    good = {"SMTP_URL": {"value": "smtp://mail"}, "SMTP_FROM": {"value": "a@b.c", "isSecret": True}}

    refused = await client.put("/system/config", json={**good, KEY: {"value": {"office": 1}}, "X/Y": {"value": 1}})
    nothing = query("SELECT key FROM system_config")
    done = await client.put("/system/config", json=good)

    assert refused.status_code == 422
    assert pointers(refused) == [f"/{KEY}/value/office", "/X~1Y"]
    assert nothing == []
    assert [(item["key"], item["value"]) for item in done.json()["items"]] == [
        ("SMTP_FROM", "********"),
        ("SMTP_URL", "smtp://mail"),
    ]
    assert len(query("SELECT seq FROM audit_entries WHERE detail->>'object' = 'config'")) == 2


async def test_the_list_that_holds_is_shown_with_what_the_environment_opens(
    client: httpx2.AsyncClient, app: Any
) -> None:
    config = app.state.context.services.config
    config._settings = config._settings.model_copy(update={"http_egress_allow": "10.0.0.0/8"})

    await put(client, "HTTP_EGRESS_ALLOW", "192.168.0.1")
    both = await get(client, "HTTP_EGRESS_ALLOW")
    await put(client, "HTTP_EGRESS_ALLOW", "192.168.0.1", isSecret=True)
    hidden = await get(client, "HTTP_EGRESS_ALLOW")
    await client.delete("/system/config/HTTP_EGRESS_ALLOW")
    env = await get(client, "HTTP_EGRESS_ALLOW")

    assert (both["value"], both["effective"]) == ("192.168.0.1", "10.0.0.0/8,192.168.0.1")
    assert (hidden["value"], hidden["effective"]) == ("********", "********")
    assert (env["value"], env["source"], env["effective"]) == ("10.0.0.0/8", "env", "10.0.0.0/8")
    assert (await get(client, "SMTP_FROM"))["effective"] is None


async def test_a_removed_value_gives_way_to_the_environment(client: httpx2.AsyncClient) -> None:
    await put(client, "SMTP_FROM", "a@b.c")

    removed = await client.delete("/system/config/SMTP_FROM")
    again = await client.delete("/system/config/SMTP_FROM")

    assert (removed.status_code, again.status_code) == (204, 404)
    assert (await get(client, "SMTP_FROM"))["source"] is None


async def test_reading_and_changing_need_their_scopes(scoped: ScopedClient) -> None:
    reader, other = await scoped("config:read", name="reader"), await scoped("plugins:write", name="other")

    assert (await reader.get("/system/config")).status_code == 200
    assert (await put(reader, "SMTP_FROM", "a@b.c")).status_code == 403
    assert (await reader.delete("/system/config/SMTP_FROM")).status_code == 403
    assert (await reader.post("/system/config/test", json={"key": "SMTP_URL"})).status_code == 403
    assert (await other.get("/system/config")).status_code == 403


async def test_trying_a_mail_server_out_connects_and_sends_where_it_is_told(client: httpx2.AsyncClient) -> None:
    mailbox = Mailbox()
    async with mail_server(mailbox, auth_require_tls=False) as port:
        await put(client, "HTTP_EGRESS_ALLOW", f"127.0.0.1:{port}")
        await put(client, "SMTP_FROM", "bot@example.org")
        url = f"smtp://me:p%40ss%2Fword@127.0.0.1:{port}"
        tries = [
            {"key": "SMTP_URL", "value": url},
            {"key": "SMTP_URL", "value": url, "to": "ada@example.com"},
            {"key": "SMTP_URL", "value": url.replace("p%40ss%2Fword", "wrong-password")},
            {"key": "SMTP_URL", "value": "smtp://127.0.0.1:1"},
            {"key": "SMTP_URL"},
        ]
        answers = [(await client.post("/system/config/test", json=body)).json() for body in tries]

    assert [answer["ok"] for answer in answers] == [True, True, False, False, False]
    assert [envelope.rcpt_tos for envelope in mailbox.envelopes] == [["ada@example.com"]]
    assert "wrong-password" not in str(answers)
    assert "HTTP_EGRESS_ALLOW" in answers[3]["message"]
    assert (await get(client, "SMTP_URL"))["value"] is None


async def test_trying_a_list_out_reads_it(client: httpx2.AsyncClient) -> None:
    async def ok(value: str) -> bool:
        answer = await client.post("/system/config/test", json={"key": "HTTP_EGRESS_ALLOW", "value": value})
        result: bool = answer.json()["ok"]
        return result

    assert await ok("10.0.0.0/8:443")
    assert not await ok("10.0.0.1/8")


async def test_an_address_to_send_to_must_be_one(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/system/config/test", json={"key": "SMTP_URL", "to": "a@b.c\r\nBcc: x@y.z"})

    assert answer.status_code == 422
    assert pointers(answer) == ["/to"]


async def test_every_trial_is_audited(client: httpx2.AsyncClient, query: Query) -> None:
    for body in (
        {"key": "HTTP_EGRESS_ALLOW", "value": "10.0.0.0/8"},
        {"key": "SMTP_URL", "value": "smtp://me:hunter2-hunter2@127.0.0.1:1", "to": "ada@example.org"},
        {"key": "SMTP_URL"},
        {"key": "ABSENT"},
    ):
        await client.post("/system/config/test", json=body)

    entries = query("SELECT actor, detail FROM audit_entries WHERE detail->>'operation' = 'test' ORDER BY seq")
    names = ("name", "hasValue", "to", "outcome")
    assert [[entry["actor"], *(entry["detail"][name] for name in names)] for entry in entries] == [
        ["bootstrap", "HTTP_EGRESS_ALLOW", True, None, "ok"],
        ["bootstrap", "SMTP_URL", True, "ada@example.org", "failed"],
        ["bootstrap", "SMTP_URL", False, None, "failed"],
        ["bootstrap", "ABSENT", False, None, "refused"],
    ]
    assert "hunter2" not in str(entries)


async def test_a_plugin_says_how_it_stands_with_its_providers(client: httpx2.AsyncClient) -> None:
    async def state() -> tuple[bool, bool, str | None]:
        (shown,) = (await client.get(f"/admin/plugins/{plugin_id(PLUGIN)}")).json()["providers"]
        assert (shown["id"], shown["configKey"]) == ("letters", KEY)
        return shown["isConfigured"], shown["isActive"], shown["problem"]

    before = await state()
    await put(client, KEY, {"office": "Main Street"})
    lacking = await state()
    await put(client, KEY, CONFIG)

    assert before == (False, False, None)
    assert lacking == (False, False, "/password: This property is required.")
    assert await state() == (True, True, None)

"""``/admin/plugins`` with real plugin folders."""

from pathlib import Path
from typing import Any

import httpx2
import pytest

from latchflow.settings import Settings
from tests.support.api import Query, ScopedClient, Wiring, pointers
from tests.support.processes import until
from tests.unit.runtime.plugin_folders import GOOD, write_plugin

GREETER = "acme-greeter"
WITH_PROVIDER = (
    GOOD
    + """
@plugin.provider(kind="email", id="post-office", display_name="Post office",
                 config_schema={"type": "object", "properties": {"user": {"type": "string"}}},
                 defaults={"user": "POST_OFFICE_USER"})
class PostOffice:
    def __init__(self, setup): ...
    async def send(self, details): ...
"""
)
INBOUND = """
from latchflow.sdk import Emit, Plugin
plugin = Plugin()
@plugin.inbound_trigger("hook", display_name="Hook", config_schema={"type": "object"})
async def hook(request, config):
    return Emit(context={})
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a plugin that nobody enabled."""
    return write_plugin(tmp_path / "plugins", name=GREETER)


@pytest.fixture
def settings(settings: Settings, folder: Path, tmp_path: Path) -> Settings:
    return settings.model_copy(update={"plugin_cache_dir": tmp_path / "copies"})


async def plugin_of(client: httpx2.AsyncClient, name: str = GREETER) -> dict[str, Any]:
    items = (await client.get("/admin/plugins")).json()["items"]
    (found,) = [item for item in items if item["name"] == name]
    document: dict[str, Any] = found
    return document


async def patch(client: httpx2.AsyncClient, name: str = GREETER, **body: Any) -> httpx2.Response:
    return await client.patch(f"/admin/plugins/{(await plugin_of(client, name))['id']}", json=body)


async def test_a_plugin_is_enabled_with_the_scopes_that_are_granted_and_runs_at_once(
    client: httpx2.AsyncClient, query: Query
) -> None:
    before = await plugin_of(client)
    answer = await patch(client, status="ENABLED", grantedScopes=["email:send"])
    after = answer.json()

    assert (before["status"], before["grantedScopes"], before["capabilities"]) == ("DISCOVERED", [], [])
    assert (answer.status_code, after["status"], after["grantedScopes"]) == (200, "ENABLED", ["email:send"])
    assert [one["key"] for one in after["capabilities"]] == ["greet"]
    await until(lambda: bool(query("SELECT 1 FROM plugin_instances i JOIN plugins p ON p.id = i.plugin_id "
                                   "WHERE p.name = %s AND i.state = 'loaded'", GREETER)))  # fmt: skip
    (entry,) = query("SELECT actor, detail FROM audit_entries WHERE kind = 'admin' AND plugin_name = %s", GREETER)
    assert entry["detail"]["object"] == "plugin"
    assert set(entry["detail"]["fields"]) >= {"status", "grantedScopes"}


async def test_scopes_can_be_granted_and_taken_back_alone(client: httpx2.AsyncClient) -> None:
    await patch(client, status="ENABLED")

    assert (await patch(client, grantedScopes=["email:send"])).json()["grantedScopes"] == ["email:send"]
    assert (await patch(client, grantedScopes=[])).json()["grantedScopes"] == []


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        ({"grantedScopes": ["storage:read"]}, 422, "/grantedScopes/0"),
        ({"status": "ENABLED", "grantedScopes": ["email:send", "x"]}, 422, "/grantedScopes/1"),
        ({"status": "FAILED"}, 422, "/status"),
        ({"status": None}, 422, "/status"),
        ({"grantedScopes": "email:send"}, 422, "/grantedScopes"),
        ({"displayName": "other"}, 422, "/displayName"),
    ],
)
async def test_a_bad_change_is_refused_with_its_place_and_changes_nothing(
    client: httpx2.AsyncClient, body: dict[str, Any], status: int, pointer: str
) -> None:
    before = await plugin_of(client)

    answer = await patch(client, **body)

    assert (answer.status_code, pointers(answer)) == (status, [pointer])
    assert await plugin_of(client) == before


async def test_a_plugin_that_breaks_the_contract_is_not_enabled_and_says_why(
    client: httpx2.AsyncClient, folder: Path
) -> None:
    (folder / "__init__.py").write_text("x = 1\n1 / 0\n")

    answer = await patch(client, status="ENABLED")

    assert answer.status_code == 409
    assert f"{folder}/__init__.py:2: ZeroDivisionError" in answer.json()["detail"]
    failed = await plugin_of(client)
    assert failed["status"] == "FAILED"
    assert "ZeroDivisionError" in failed["error"]


async def test_a_disabled_plugin_that_cannot_be_enabled_stays_disabled_with_the_reason(
    client: httpx2.AsyncClient, folder: Path, query: Query
) -> None:
    await patch(client, status="ENABLED")
    await patch(client, status="DISABLED")
    (folder / "__init__.py").write_text("1 / 0\n")

    answer = await patch(client, status="ENABLED")

    after = await plugin_of(client)
    assert (answer.status_code, after["status"]) == (409, "DISABLED")
    assert "ZeroDivisionError" in after["error"]
    entries = query("SELECT detail FROM audit_entries WHERE kind = 'admin' AND plugin_name = %s", GREETER)
    assert [entry["detail"]["fields"] for entry in entries].count(["error"]) == 1


async def test_a_provider_whose_config_cannot_be_opened_is_listed_with_that_problem(
    client: httpx2.AsyncClient, folder: Path, query: Query
) -> None:
    (folder / "__init__.py").write_text(WITH_PROVIDER)
    (provider,) = (await patch(client, status="ENABLED", grantedScopes=["email:send"])).json()["providers"]
    await client.put(f"/system/config/{provider['configKey']}", json={"value": {"user": "x"}})
    query("UPDATE system_config SET value_sealed = '\\x0011223344'::bytea RETURNING 1")

    (after,) = (await plugin_of(client))["providers"]

    assert (after["isConfigured"], after["isActive"]) == (False, False)
    assert "cannot be opened" in after["problem"]


async def test_a_mended_plugin_is_enabled_by_a_reload(client: httpx2.AsyncClient, folder: Path) -> None:
    (folder / "__init__.py").write_text("1 / 0\n")
    await patch(client, status="ENABLED")
    (folder / "__init__.py").write_text(GOOD)
    path = f"/admin/plugins/{(await plugin_of(client))['id']}"

    assert (await client.patch(path, json={"status": "ENABLED"})).json()["status"] == "ENABLED"
    (folder / "plugin.toml").chmod(0o666)
    broken = (await client.post(f"{path}/reload")).json()
    (folder / "plugin.toml").chmod(0o644)
    mended = (await client.post(f"{path}/reload")).json()

    assert (broken["status"], mended["status"], mended["error"]) == ("ENABLED", "ENABLED", None)
    assert "chmod -R o-w" in broken["error"]


async def test_changed_code_waits_for_a_restart_without_hot_reload(client: httpx2.AsyncClient, folder: Path) -> None:
    await patch(client, status="ENABLED")
    before = await plugin_of(client)
    (folder / "more.py").write_text("")

    answer = await client.post(f"/admin/plugins/{before['id']}/reload")

    assert answer.status_code == 409
    assert "restart" in answer.json()["detail"]
    assert (await plugin_of(client))["codeHash"] == before["codeHash"]


async def test_a_plugin_whose_folder_has_gone_cannot_be_enabled(client: httpx2.AsyncClient, folder: Path) -> None:
    (folder / "plugin.toml").unlink()

    assert (await patch(client, status="ENABLED")).status_code == 409


async def test_core_cannot_be_disabled(client: httpx2.AsyncClient, query: Query) -> None:
    query("UPDATE plugins SET name = '@latchflow/core' WHERE name = %s RETURNING id", GREETER)
    identifier = (await plugin_of(client, "@latchflow/core"))["id"]
    query("UPDATE plugins SET id = %s WHERE name = '@latchflow/core' RETURNING id", _core_id())

    answer = await client.patch(f"/admin/plugins/{_core_id()}", json={"status": "DISABLED"})

    assert answer.status_code == 409
    assert identifier != _core_id()


async def test_a_webhook_of_a_disabled_plugin_is_refused_and_works_again_when_it_is_enabled(
    client: httpx2.AsyncClient, client_with: Any, folder: Path, wiring: Wiring
) -> None:
    (folder / "__init__.py").write_text(INBOUND)
    await patch(client, status="ENABLED")
    trigger = await wiring.trigger(capability={"plugin": GREETER, "key": "hook"}, config={})
    sender = client_with(None)
    hook = f"/hooks/{trigger['id']}"

    assert (await sender.post(hook)).status_code == 202
    disabled = await patch(client, status="DISABLED")
    refused = await sender.post(hook)
    await patch(client, status="ENABLED")

    assert (disabled.json()["status"], refused.status_code) == ("DISABLED", 409)
    assert "disabled" in refused.json()["detail"]
    assert (await sender.post(hook)).status_code == 202


async def test_the_status_has_numbers_of_every_capability(
    client: httpx2.AsyncClient, client_with: Any, folder: Path, wiring: Wiring, query: Query
) -> None:
    (folder / "__init__.py").write_text(INBOUND)
    await patch(client, status="ENABLED")
    trigger = await wiring.trigger(capability={"plugin": GREETER, "key": "hook"}, config={})
    await client_with(None).post(f"/hooks/{trigger['id']}")
    reported = "SELECT 1 FROM plugin_instances WHERE stats <> '{}'"
    await until(lambda: bool(query(reported)), seconds=15)

    status = (await client.get(f"/admin/plugins/{(await plugin_of(client))['id']}/status")).json()

    (capability,) = status["capabilities"]
    assert capability["counts"] == {"SUCCEEDED": 1}
    assert capability["errorRate"] == 0
    assert capability["durationMs"]["p50"] == capability["durationMs"]["p95"] > 0
    assert capability["lastError"] is None
    (running,) = status["processes"]
    assert (running["state"], running["codeHash"], status["mixed"]) == ("loaded", status["codeHash"], False)


async def test_processes_that_differ_are_mixed_and_a_problem(client: httpx2.AsyncClient, query: Query) -> None:
    await patch(client, status="ENABLED")
    loaded = "SELECT i.process_id FROM plugin_instances i JOIN plugins p ON p.id = i.plugin_id WHERE p.name = %s"
    await until(lambda: bool(query(loaded, GREETER)))
    query(
        """
        WITH other AS (
            INSERT INTO processes (id, role, identity, host, pid, version)
            VALUES (gen_random_uuid(), 'worker', '7@other', 'other', 7, '0') RETURNING id
        )
        INSERT INTO plugin_instances (process_id, plugin_id, version, code_hash, state, error)
        SELECT other.id, p.id, '0.9.0', 'older', 'failed', 'a reason' FROM other, plugins p WHERE p.name = %s
        RETURNING process_id
        """,
        GREETER,
    )

    assert (await plugin_of(client))["mixed"] is True
    health = (await client.get("/system/plugin-runtime/health")).json()
    problems = [text for text in health["problems"] if GREETER in text]
    assert [text for text in problems if "runs in different versions (0.9.0, 1.0.0)" in text]
    assert [text for text in problems if "cannot be loaded in worker 7@other: a reason" in text]
    (plugin,) = [found for found in health["plugins"] if found["name"] == GREETER]
    assert {one["state"] for one in plugin["processes"]} == {"loaded", "failed"}


async def test_providers_are_listed_with_their_config_key(client: httpx2.AsyncClient, folder: Path) -> None:
    (folder / "__init__.py").write_text(WITH_PROVIDER)

    (provider,) = (await patch(client, status="ENABLED")).json()["providers"]

    assert provider["configKey"] == "PLUGIN_ACME_GREETER_PROVIDER_POST_OFFICE"
    assert (provider["kind"], provider["defaults"]) == ("email", {"user": "POST_OFFICE_USER"})


async def test_only_who_may_write_plugins_changes_them(client: httpx2.AsyncClient, scoped: ScopedClient) -> None:
    identifier = (await plugin_of(client))["id"]
    reader = await scoped("plugins:read")

    assert (await reader.patch(f"/admin/plugins/{identifier}", json={"status": "ENABLED"})).status_code == 403
    assert (await reader.post(f"/admin/plugins/{identifier}/reload")).status_code == 403
    assert (await reader.get(f"/admin/plugins/{identifier}/status")).status_code == 200


def _core_id() -> str:
    from latchflow.names import plugin_id

    return str(plugin_id("@latchflow/core"))


@pytest.fixture
def rivals(folder: Path) -> None:
    """Two more plugins, which want the same variable."""
    for name in ("acme-first", "acme-second"):
        write_plugin(folder.parent, name=name, code=WITH_PROVIDER)


@pytest.mark.usefixtures("rivals")
async def test_a_plugin_that_asks_for_the_variable_of_another_is_not_enabled(client: httpx2.AsyncClient) -> None:
    assert (await patch(client, "acme-first", status="ENABLED")).status_code == 200

    refused = await patch(client, "acme-second", status="ENABLED")

    assert refused.status_code == 409
    assert "POST_OFFICE_USER is a variable of the plugin 'acme-first'" in refused.json()["detail"]
    assert (await plugin_of(client, "acme-second"))["status"] == "FAILED"


@pytest.mark.usefixtures("rivals")
async def test_a_disabled_plugin_gives_its_variables_up_and_is_late_when_it_comes_back(
    client: httpx2.AsyncClient,
) -> None:
    await patch(client, "acme-first", status="ENABLED")
    assert "disable that plugin first" in (await patch(client, "acme-second", status="ENABLED")).json()["detail"]
    assert (await patch(client, "acme-first", status="DISABLED")).status_code == 200

    taken = await patch(client, "acme-second", status="ENABLED")
    late = await patch(client, "acme-first", status="ENABLED")

    assert taken.status_code == 200
    assert late.status_code == 409
    assert "is a variable of the plugin 'acme-second'" in late.json()["detail"]

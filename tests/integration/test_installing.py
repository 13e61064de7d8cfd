"""Bringing the catalog of plugins up to date with the folders, when a process starts."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from latchflow.errors import UnavailableError
from latchflow.runtime.lifecycle import following, installing
from latchflow.runtime.loader.plugin_folder import code_hash
from tests.support.execution import Deployment
from tests.support.processes import Folders, process, until
from tests.unit.runtime.plugin_folders import GOOD, write_plugin


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """Folders that hold one plugin."""
    found = Folders.below(tmp_path)
    write_plugin(found.plugins, name="acme-greeter")
    return found


async def plugin_of(deployment: Deployment, name: str = "acme-greeter") -> dict[str, Any]:
    (row,) = await deployment.rows("SELECT * FROM plugins WHERE name = %s", name)
    return row


async def test_a_plugin_that_is_not_enabled_is_listed_and_not_imported(
    deployment: Deployment, folders: Folders
) -> None:
    (folders.plugins / "acme-greeter" / "__init__.py").write_text("raise SystemExit('imported')")

    async with process(deployment, folders, auto_enable=False) as plugins:
        assert plugins.live.snapshot.plugins == {}

    assert (await plugin_of(deployment))["status"] == "DISCOVERED"


async def test_an_enabled_plugin_brings_its_capabilities(deployment: Deployment, folders: Folders) -> None:
    async with process(deployment, folders) as plugins:
        assert ("acme-greeter", "greet") in plugins.live.snapshot.actions

    rows = await deployment.rows("SELECT kind, key, is_present FROM capabilities")
    assert rows == [{"kind": "ACTION", "key": "greet", "is_present": True}]


async def test_a_broken_version_is_failed_with_the_place_and_harms_nobody(
    deployment: Deployment, folders: Folders
) -> None:
    broken = write_plugin(folders.plugins, name="acme-broken", code="1 / 0")

    async with process(deployment, folders) as plugins:
        assert list(plugins.live.snapshot.plugins) == ["acme-greeter"]

    row = await plugin_of(deployment, "acme-broken")
    assert row["status"] == "FAILED"
    assert f"{broken}/__init__.py:1: ZeroDivisionError" in row["error"]


async def test_a_plugin_that_has_gone_is_failed_and_comes_back(deployment: Deployment, folders: Folders) -> None:
    async with process(deployment, folders):
        pass
    async with process(deployment, folders, path=""):
        gone = await plugin_of(deployment)
    async with process(deployment, folders):
        back = await plugin_of(deployment)

    assert gone["status"] == "FAILED"
    assert "PLUGINS_PATH" in gone["error"]
    assert (back["status"], back["error"]) == ("ENABLED", None)


async def test_a_plugin_that_another_process_runs_is_not_gone(deployment: Deployment, folders: Folders) -> None:
    async with process(deployment, folders), process(deployment, folders, path="") as without:
        assert (await plugin_of(deployment))["status"] == "ENABLED"
        failure = without.live.failures["acme-greeter"]

    assert "No folder that this process knows holds the checked code" in failure.error


async def test_a_plugin_whose_toml_was_broken_before_anyone_enabled_it_is_not_enabled_when_it_is_mended(
    deployment: Deployment, folders: Folders
) -> None:
    write_plugin(folders.plugins, name="acme-new", toml="oops")
    async with process(deployment, folders, auto_enable=False):
        broken = await plugin_of(deployment, "acme-new")
    (folders.plugins / "acme-new" / "plugin.toml").write_text('name = "acme-new"\nversion = "1.0.0"\nsdk = ">=1,<2"\n')

    async with process(deployment, folders, auto_enable=False):
        assert (broken["status"], (await plugin_of(deployment, "acme-new"))["status"]) == ("FAILED", "DISCOVERED")


async def test_what_admins_granted_outlives_a_broken_toml_and_a_restart(
    deployment: Deployment, folders: Folders
) -> None:
    toml = folders.plugins / "acme-greeter" / "plugin.toml"
    whole = toml.read_text()
    async with process(deployment, folders):
        await deployment.rows("UPDATE plugins SET granted_scopes = '{}'")
    toml.write_text("oops")
    async with process(deployment, folders):
        broken = await plugin_of(deployment)
    toml.write_text(whole)

    async with process(deployment, folders):
        mended = await plugin_of(deployment)

    assert (broken["status"], mended["status"]) == ("FAILED", "ENABLED")
    assert (mended["granted_scopes"], mended["scopes"]) == ([], ["email:send"])


async def test_a_grant_does_not_outlive_the_declaration_of_its_scope(deployment: Deployment, folders: Folders) -> None:
    folder = folders.plugins / "acme-greeter"
    async with process(deployment, folders):
        pass
    (folder / "plugin.toml").write_text((folder / "plugin.toml").read_text().replace('["email:send"]', "[]"))
    (folder / "__init__.py").write_text(GOOD.replace(', scopes=["email:send"]', ""))
    async with process(deployment, folders):
        row = await plugin_of(deployment)

    assert (row["status"], row["scopes"], row["granted_scopes"]) == ("ENABLED", [], [])


async def test_a_dedicated_process_waits_for_the_verdict_of_its_plugin(
    deployment: Deployment, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installing, "_SECOND_LOOK_SECONDS", 0.0)
    folder = folders.plugins / "acme-greeter"
    (folder / "__init__.py").write_text(f"import time\ntime.sleep(0.5)\n{GOOD}")
    await _fail_before(deployment, folders, folder)
    async with process(deployment, folders, only="acme-greeter") as plugins:
        assert list(plugins.live.snapshot.plugins) == ["acme-greeter"]


async def _fail_before(deployment: Deployment, folders: Folders, folder: Path) -> None:
    async with process(deployment, folders):
        await deployment.rows("UPDATE plugins SET status = 'FAILED', code_hash = %s", code_hash(folder))


async def test_a_follower_gives_a_database_up_that_does_not_answer(
    deployment: Deployment, folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with process(deployment, folders) as plugins, deployment.database.transaction() as connection:
        monkeypatch.setattr(following, "_READ_SECONDS", 0.2)
        await connection.execute("LOCK TABLE plugins")
        with pytest.raises(UnavailableError):
            await plugins.follower.follow()


@pytest.mark.long
async def test_a_plugin_that_hangs_costs_its_ten_seconds_once_and_holds_up_no_other(
    deployment: Deployment, folders: Folders
) -> None:
    write_plugin(folders.plugins, name="acme-hanging", code="import time\ntime.sleep(600)")

    async with process(deployment, folders) as plugins:
        assert list(plugins.live.snapshot.plugins) == ["acme-greeter"]
        assert "longer than 10 s" in (await plugin_of(deployment, "acme-hanging"))["error"]
    started = time.monotonic()
    async with process(deployment, folders):
        assert time.monotonic() - started < 6


async def test_fifty_plugins_load_in_under_five_seconds(deployment: Deployment, tmp_path: Path) -> None:
    folders = Folders.below(tmp_path)
    for number in range(50):
        write_plugin(folders.plugins, name=f"acme-{number}", code=f"NUMBER = {number}\n{GOOD}")

    started = time.monotonic()
    async with process(deployment, folders) as plugins:
        seconds = time.monotonic() - started
        assert len(plugins.live.snapshot.plugins) == 50

    assert seconds < 5


async def test_two_processes_that_start_at_once_agree(deployment: Deployment, folders: Folders) -> None:
    write_plugin(folders.plugins, name="acme-broken", code="1 / 0")

    async def run() -> list[str]:
        async with process(deployment, folders) as plugins:
            return list(plugins.live.snapshot.plugins)

    assert list(await asyncio.gather(run(), run())) == [["acme-greeter"], ["acme-greeter"]]
    assert (await plugin_of(deployment, "acme-broken"))["status"] == "FAILED"


async def test_an_error_that_no_database_can_hold_is_recorded_readably(
    deployment: Deployment, folders: Folders
) -> None:
    write_plugin(folders.plugins, name="acme-broken", code="raise ValueError('a\\x00b\\ud800')")

    async with process(deployment, folders):
        await until(lambda: True)

    assert "ValueError: a\ufffdb\ufffd" in (await plugin_of(deployment, "acme-broken"))["error"]


_POST = (
    GOOD
    + """
@plugin.provider(kind="email", id="post", display_name="Post", defaults={"user": "POST_USER"},
                 config_schema={"type": "object", "properties": {"user": {"type": "string"}}})
class Post:
    def __init__(self, setup): ...
    async def send(self, details): ...
"""
)


async def test_a_variable_that_one_plugin_reads_is_given_to_no_other(deployment: Deployment, folders: Folders) -> None:
    write_plugin(folders.plugins, name="acme-post", code=_POST)
    async with process(deployment, folders):
        pass
    write_plugin(folders.plugins, name="acme-another", code=_POST)

    async with process(deployment, folders) as plugins:
        assert set(plugins.live.snapshot.plugins) == {"acme-greeter", "acme-post"}

    row = await plugin_of(deployment, "acme-another")
    assert row["status"] == "FAILED"
    assert "POST_USER is a variable of the plugin 'acme-post'" in row["error"]
    assert (await plugin_of(deployment, "acme-post"))["status"] == "ENABLED"

"""What a process loads is what was checked, whole, or it says why not."""

import threading
from pathlib import Path

import pytest

from latchflow.runtime.lifecycle import following
from tests.support.execution import Deployment
from tests.support.processes import Folders, process, until
from tests.unit.runtime.plugin_folders import write_plugin

NAME = "acme-testing"
CODE = """
import os, time
from pathlib import Path
from latchflow.sdk import Plugin
plugin = Plugin()
@plugin.action("one", display_name="One", config_schema={"type": "object"})
async def one(call): ...
"""
SECOND = """
@plugin.action("two", display_name="Two", config_schema={"type": "object"})
async def two(call): ...
"""
# A check has no variables of the process.
WAIT = """
while "HOLD" in os.environ and not Path(os.environ["HOLD"]).exists():
    time.sleep(0.02)
"""


async def test_an_import_that_outlasts_its_limit_is_never_run_by_half(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = Folders.below(tmp_path)
    write_plugin(folders.plugins, code=CODE + WAIT + SECOND)
    monkeypatch.setattr(following, "_IMPORT_SECONDS", 0.3)
    monkeypatch.setenv("HOLD", str(tmp_path / "go"))

    async with process(deployment, folders) as plugins:
        first = plugins.live.failures[NAME].error
        await deployment.rows("UPDATE plugins SET granted_scopes = '{}'")
        await plugins.follower.follow()
        second = plugins.live.failures[NAME].error
        (tmp_path / "go").touch()
        await until(lambda: not [one for one in threading.enumerate() if one.name == "plugin import"])
        await deployment.rows("UPDATE plugins SET granted_scopes = '{email:send}'")
        await plugins.follower.follow()
        whole = {key for _, key in plugins.live.snapshot.actions}

    assert "took longer than 0.3 s" in first
    assert "goes on in this process" in second
    assert whole == {"one", "two"}


async def test_a_plugin_that_brings_other_capabilities_than_its_check_found_is_not_run(
    deployment: Deployment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = Folders.below(tmp_path)
    write_plugin(folders.plugins, code=CODE + 'if "HOLD" not in os.environ:' + SECOND.replace("\n", "\n    "))
    monkeypatch.setenv("HOLD", "")

    async with process(deployment, folders) as plugins:
        assert plugins.live.snapshot.plugins == {}
        error = plugins.live.failures[NAME].error

    assert "ACTION/two" in error

"""Processes that look at different folders, or at different times, leave the catalog right."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from latchflow.errors import ConflictError
from latchflow.names import plugin_id
from latchflow.runtime.contract import ContractError
from latchflow.runtime.lifecycle.administration import PluginAdministration
from latchflow.runtime.lifecycle.following import Follower
from latchflow.runtime.lifecycle.installing import Installer, PluginFolders
from latchflow.runtime.lifecycle.live import LiveRegistry
from latchflow.runtime.loader.copies import Copies
from tests.support.execution import Deployment
from tests.support.processes import Folders, process
from tests.unit.runtime.plugin_folders import GOOD, write_plugin

NAME = "acme-testing"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders.below(tmp_path)


@pytest.fixture
def folder(folders: Folders) -> Path:
    return write_plugin(folders.plugins)


def installer_of(deployment: Deployment, folders: Folders, path: str | None = None) -> Installer:
    path = str(folders.plugins) if path is None else path
    copies = Copies.at(folders.cache)
    return Installer(
        deployment.database, PluginFolders(home=folders.home, plugins_path=path, enables_all=True, copies=copies)
    )


async def row_of(deployment: Deployment) -> dict[str, Any]:
    (row,) = await deployment.rows("SELECT status, error, code_hash, is_wanted FROM plugins WHERE name = %s", NAME)
    return row


@asynccontextmanager
async def follower_of(deployment: Deployment, installer: Installer) -> AsyncIterator[tuple[Follower, LiveRegistry]]:
    live = LiveRegistry()
    try:
        yield Follower(deployment.database, live, installer, is_reloading=False), live
    finally:
        await live.close()
        await installer.close()


async def test_a_plugin_of_one_host_runs_there_when_two_hosts_start_at_once(
    deployment: Deployment, folders: Folders, folder: Path
) -> None:
    has_it, has_it_not = installer_of(deployment, folders), installer_of(deployment, folders, path="")
    async with follower_of(deployment, has_it) as (follower, live):
        await has_it.install()
        await has_it_not.install()
        taken_for_gone = await row_of(deployment)
        await follower.follow()
        back = await row_of(deployment)

        assert (taken_for_gone["status"], back["status"], back["error"]) == ("FAILED", "ENABLED", None)
        assert list(live.snapshot.plugins) == [NAME]
    await has_it_not.close()


async def test_a_verdict_of_code_that_is_no_longer_there_is_dropped(
    deployment: Deployment, folders: Folders, folder: Path
) -> None:
    slow = installer_of(deployment, folders)
    (folder / "__init__.py").write_text("import time; time.sleep(600)")
    looked_at = await slow._look()
    (folder / "__init__.py").write_text(GOOD)
    async with process(deployment, folders):
        good = await row_of(deployment)
        await slow._record(looked_at, {NAME: ContractError("took too long")}, keeps_running=False)
        after = await row_of(deployment)

    assert good["status"] == "ENABLED"
    assert after == good


async def test_a_bad_verdict_does_not_undo_what_somebody_recorded_since(
    deployment: Deployment, folders: Folders, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    (folder / "__init__.py").write_text("1 / 0")
    slow = installer_of(deployment, folders)
    looked_at = await slow._look()
    elsewhere = Folders.below(tmp_path_factory.mktemp("elsewhere"))
    write_plugin(elsewhere.plugins)
    async with process(deployment, elsewhere):
        good = await row_of(deployment)
        await slow._record(looked_at, {NAME: ContractError("ZeroDivisionError")}, keeps_running=False)

        assert await row_of(deployment) == good


async def test_a_reload_where_the_folder_is_not_harms_nobody(
    deployment: Deployment, folders: Folders, folder: Path
) -> None:
    async with process(deployment, folders), process(deployment, folders, role="api", path="") as api:
        administration = PluginAdministration(deployment.database, api, is_reloading=False)
        with pytest.raises(ConflictError, match="finds no folder"):
            await administration.reload(plugin_id(NAME), actor="test")

        assert (await row_of(deployment))["status"] == "ENABLED"

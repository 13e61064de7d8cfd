"""Bringing the catalog of plugins up to date with the folders."""

from pathlib import Path
from typing import Any

import pytest

from latchflow.runtime.installing import install
from latchflow.runtime.presence import ProcessIdentity, present
from latchflow.runtime.registry import Registry
from tests.support.execution import Deployment

_CODE = """
from latchflow.sdk import ActionCall, Plugin
plugin = Plugin()
@plugin.action("greet", display_name="Greet", config_schema={"type": "object"})
async def greet(call: ActionCall) -> dict: return {}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of plugins that holds one."""
    greeter = tmp_path / "more" / "greeter"
    greeter.mkdir(parents=True)
    (greeter / "plugin.toml").write_text('name = "acme-greeter"\nversion = "1.0.0"\nsdk = ">=1,<2"\n')
    (greeter / "__init__.py").write_text(_CODE)
    return greeter.parent


async def installed(deployment: Deployment, home: Path, path: object = "", *, auto_enable: bool = True) -> Registry:
    return await install(deployment.database, home, plugins_path=str(path), auto_enable=auto_enable)


async def greeter_of(deployment: Deployment) -> dict[str, Any]:
    (row,) = await deployment.rows("SELECT status, error, code_hash FROM plugins WHERE name = 'acme-greeter'")
    return row


async def test_a_plugin_that_is_not_enabled_is_listed_and_not_imported(
    deployment: Deployment, tmp_path: Path, folder: Path
) -> None:
    (folder / "greeter" / "__init__.py").write_text("raise SystemExit('imported')")

    registry = await installed(deployment, tmp_path, folder, auto_enable=False)

    assert (await greeter_of(deployment))["status"] == "DISCOVERED"
    assert registry.plugins == {}


async def test_an_enabled_plugin_brings_its_capabilities(deployment: Deployment, tmp_path: Path, folder: Path) -> None:
    registry = await installed(deployment, tmp_path, folder)
    try:
        rows = await deployment.rows("SELECT kind, key, is_present FROM capabilities")
    finally:
        registry.close()

    assert ("acme-greeter", "greet") in registry.actions
    assert rows == [{"kind": "ACTION", "key": "greet", "is_present": True}]


async def test_a_broken_version_is_failed_with_the_place_and_harms_nobody(
    deployment: Deployment, tmp_path: Path, folder: Path
) -> None:
    broken = folder / "broken"
    broken.mkdir()
    (broken / "plugin.toml").write_text('name = "acme-broken"\nversion = "1.0.0"\nsdk = ">=1,<2"\n')
    (broken / "__init__.py").write_text("1 / 0")

    registry = await installed(deployment, tmp_path, folder)
    registry.close()

    (row,) = await deployment.rows("SELECT status, error FROM plugins WHERE name = 'acme-broken'")
    assert row["status"] == "FAILED"
    assert "__init__.py:1: ZeroDivisionError" in row["error"]
    assert list(registry.plugins) == ["acme-greeter"]


async def test_a_plugin_that_has_gone_is_failed_and_comes_back(
    deployment: Deployment, tmp_path: Path, folder: Path
) -> None:
    (await installed(deployment, tmp_path, folder)).close()

    (await installed(deployment, tmp_path)).close()
    gone = await greeter_of(deployment)
    (await installed(deployment, tmp_path, folder)).close()

    assert gone["status"] == "FAILED"
    assert "PLUGINS_PATH" in gone["error"]
    assert (await greeter_of(deployment))["status"] == "ENABLED"


async def test_a_plugin_that_another_process_runs_is_not_gone(
    deployment: Deployment, tmp_path: Path, folder: Path
) -> None:
    registry = await installed(deployment, tmp_path, folder)
    async with present(deployment.database, ProcessIdentity.of_this_process(), "worker", registry):
        (await installed(deployment, tmp_path)).close()
    registry.close()

    assert (await greeter_of(deployment))["status"] == "ENABLED"

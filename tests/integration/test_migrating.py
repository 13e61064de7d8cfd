"""Definitions whose config a newer version of their plugin does not take."""

from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from latchflow.names import capability_id
from latchflow.store import places
from tests.support.execution import Deployment
from tests.support.processes import Folders, process, until
from tests.unit.runtime.plugin_folders import write_plugin

NAME = "acme-testing"
TOML = 'name = "acme-testing"\nversion = "{version}"\nsdk = ">=1,<2"\n'
OLD = """
from latchflow.sdk import ActionCall, Plugin
plugin = Plugin()
@plugin.action("call", display_name="Call", config_schema={"type": "object", "required": ["url"]})
async def call(call: ActionCall): ...
"""
NEW = """
from latchflow.sdk import ActionCall, Plugin
plugin = Plugin()
SCHEMA = {"type": "object", "required": ["address"], "properties": {"key": {"type": "string", "writeOnly": True}}}
def migrate(from_version, config):
    return {"address": config["url"], "key": config["key"], "from": from_version}
@plugin.action("call", display_name="Call", config_schema=SCHEMA, migrate_config=migrate)
async def call(call: ActionCall): ...
"""
CONFIG = {"url": "there", "key": "a secret"}


class World:
    """A plugin in two versions, and definitions that the old one saved."""

    def __init__(self, deployment: Deployment, folders: Folders) -> None:
        self.deployment = deployment
        self.folders = folders
        self.folder = write_plugin(folders.plugins, name=NAME)

    def become(self, version: str, code: str) -> None:
        (self.folder / "plugin.toml").write_text(TOML.format(version=version))
        (self.folder / "__init__.py").write_text(code)

    async def define(self, config: dict[str, Any] = CONFIG) -> UUID:
        identifier = uuid4()
        sealed = self.deployment.keyring.seal_json(config, places.action_config(identifier, NAME))
        await self.deployment.rows(
            """
            INSERT INTO action_definitions (id, name, capability_id, config_sealed, is_enabled, version, plugin_version)
            VALUES (%s, %s, %s, %s, true, 1, '1.0.0')
            """,
            identifier, str(identifier), capability_id(NAME, "ACTION", "call"), sealed,
        )  # fmt: skip
        return identifier

    async def definition(self, identifier: UUID) -> dict[str, Any]:
        (row,) = await self.deployment.rows("SELECT * FROM action_definitions WHERE id = %s", identifier)
        place = places.action_config(identifier, NAME)
        return {**row, "config": self.deployment.keyring.open_json(row["config_sealed"], place)}

    async def is_swept(self) -> bool:
        return not await self.deployment.rows(
            """
            SELECT 1 FROM action_definitions d JOIN capabilities c ON c.id = d.capability_id
            JOIN plugins p ON p.id = c.plugin_id WHERE d.checked_hash <> p.code_hash
            """
        )


@pytest.fixture
async def world(deployment: Deployment, tmp_path: Path) -> World:
    made = World(deployment, Folders.below(tmp_path))
    made.become("1.0.0", OLD)
    async with process(deployment, made.folders):
        pass
    return made


async def test_configs_are_migrated_once_by_several_processes_and_audited(world: World) -> None:
    identifiers = [await world.define() for _ in range(60)]
    world.become("2.0.0", NEW)
    async with process(world.deployment, world.folders), process(world.deployment, world.folders):
        await until(world.is_swept)

    for identifier in identifiers:
        row = await world.definition(identifier)
        assert row["config"] == {"address": "there", "key": "a secret", "from": "1.0.0"}
        assert (row["version"], row["plugin_version"], row["invalid_config"]) == (2, "2.0.0", None)
    entries = await world.deployment.rows("SELECT actor, detail FROM audit_entries WHERE kind = 'admin'")
    assert len(entries) == 60
    assert {entry["actor"] for entry in entries} == {f"{NAME} 2.0.0"}
    assert "a secret" not in str(entries)
    versions = await world.deployment.rows("SELECT version FROM action_versions")
    assert {row["version"] for row in versions} == {2}


async def test_what_cannot_be_migrated_is_marked_until_a_version_takes_it(world: World) -> None:
    identifier = await world.define()
    world.become("2.0.0", NEW.replace(", migrate_config=migrate", ""))
    async with process(world.deployment, world.folders):
        await until(world.is_swept)
        marked = await world.definition(identifier)
    world.become("2.0.1", NEW)
    async with process(world.deployment, world.folders):
        await until(world.is_swept)
        mended = await world.definition(identifier)

    assert "/config/address" in marked["invalid_config"]
    assert "a secret" not in marked["invalid_config"]
    assert (marked["config"], marked["version"], marked["plugin_version"]) == (CONFIG, 1, "1.0.0")
    assert (mended["invalid_config"], mended["config"]["from"]) == (None, "1.0.0")


async def test_one_config_that_cannot_be_migrated_holds_up_no_other(world: World) -> None:
    bad = await world.define({**CONFIG, "url": "bad"})
    good = [await world.define() for _ in range(3)]
    migrate = '{"address": "\\ud800" if config["url"] == "bad" else "there", "from": from_version}'
    world.become(
        "2.0.0", NEW.replace('{"address": config["url"], "key": config["key"], "from": from_version}', migrate)
    )
    async with process(world.deployment, world.folders):
        await until(world.is_swept)

    assert "cannot be stored" in (await world.definition(bad))["invalid_config"]
    assert {(await world.definition(one))["config"]["address"] for one in good} == {"there"}


async def test_a_plugin_that_is_disabled_while_it_migrates_leaves_the_config_to_be_migrated_later(
    world: World, tmp_path: Path
) -> None:
    identifiers = [await world.define() for _ in range(2)]
    waits = NEW.replace(
        "def migrate(from_version, config):",
        f"""
import asyncio, pathlib
async def migrate(from_version, config):
    pathlib.Path({str(tmp_path / "begun")!r}).touch()
    while not pathlib.Path({str(tmp_path / "go")!r}).exists():
        await asyncio.sleep(0.02)
""".rstrip(),
    )
    world.become("2.0.0", waits)
    async with process(world.deployment, world.folders) as plugins:
        await until((tmp_path / "begun").exists)
        await world.deployment.rows("UPDATE plugins SET status = 'DISABLED'")
        await plugins.follower.follow()
        left = plugins.live.snapshot.plugins
        (tmp_path / "go").touch()
        await until(world.is_swept)

    rows = [await world.definition(identifier) for identifier in identifiers]
    assert left == {}
    assert [(row["invalid_config"], row["config"].get("address")) for row in rows] == [(None, "there")] * 2


async def test_a_config_that_fits_is_left_alone(world: World) -> None:
    identifier = await world.define()
    world.become("1.1.0", OLD + "\n")
    async with process(world.deployment, world.folders):
        await until(world.is_swept)

    row = await world.definition(identifier)
    assert (row["version"], row["invalid_config"], row["config"]) == (1, None, CONFIG)

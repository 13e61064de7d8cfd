import asyncio
from pathlib import Path

import pytest

from latchflow.crypto import Keyring
from latchflow.runtime.lifecycle import presence
from latchflow.runtime.lifecycle.presence import ProcessIdentity, present
from latchflow.runtime.lifecycle.running import running_plugins
from latchflow.settings import Settings
from latchflow.store.database import Database
from tests.support.execution import FAKE_KEY
from tests.support.postgres import TestDatabase

ROOT = Path(__file__).resolve().parents[2]


async def test_a_process_whose_row_vanished_is_listed_again_with_its_plugins(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(presence, "_REPORT_SECONDS", 0.02)
    me = ProcessIdentity.of_this_process()
    count = "SELECT count(*) AS number FROM plugin_instances WHERE process_id = %s"

    async with Database.open(Settings.model_validate({"DATABASE_URL": database.url})) as opened:
        settings = Settings.model_validate({"LATCHFLOW_PLUGIN_CACHE_DIR": tmp_path / "copies"})
        keyring = Keyring.from_setting(FAKE_KEY)
        async with (
            running_plugins(opened, keyring, settings, home=ROOT) as plugins,
            present(opened, me, "worker", plugins.live),
            opened.connection() as connection,
        ):
            loaded = len(plugins.live.snapshot.plugins)
            await connection.execute("DELETE FROM processes WHERE id = %s", (me.id,))
            number = 0
            async with asyncio.timeout(10):
                while number == 0:
                    await asyncio.sleep(0.02)
                    row = await (await connection.execute(count, (me.id,))).fetchone()
                    number = row["number"] if row else 0

    assert number == loaded > 0


async def test_a_worker_of_one_plugin_loads_that_and_those_that_bring_providers(
    database: TestDatabase, tmp_path: Path
) -> None:
    settings = Settings.model_validate({"LATCHFLOW_PLUGIN_CACHE_DIR": tmp_path / "copies"})
    keyring = Keyring.from_setting(FAKE_KEY)
    webhook = "@latchflow/plugin-webhook"
    async with (
        Database.open(Settings.model_validate({"DATABASE_URL": database.url})) as opened,
        running_plugins(opened, keyring, settings, home=ROOT) as everything,
        running_plugins(opened, keyring, settings, home=ROOT, only=webhook) as one,
    ):
        snapshot, of_one = everything.live.snapshot, one.live.snapshot

    with_providers = {plugin for plugin, _ in snapshot.providers}
    assert with_providers
    assert set(of_one.plugins) == {webhook} | with_providers < set(snapshot.plugins)

import asyncio
from pathlib import Path

import pytest

from latchflow.runtime import presence
from latchflow.runtime.installing import install
from latchflow.runtime.presence import ProcessIdentity, present
from latchflow.settings import Settings
from latchflow.store.database import Database
from tests.support.postgres import TestDatabase

ROOT = Path(__file__).resolve().parents[2]


async def test_a_process_whose_row_vanished_is_listed_again_with_its_plugins(
    database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "_REPORT_SECONDS", 0.02)
    me = ProcessIdentity.of_this_process()
    count = "SELECT count(*) AS number FROM plugin_instances WHERE process_id = %s"

    async with Database.open(Settings.model_validate({"DATABASE_URL": database.url})) as opened:
        registry = await install(opened, ROOT, plugins_path="", auto_enable=False)
        async with present(opened, me, "worker", registry), opened.connection() as connection:
            await connection.execute("DELETE FROM processes WHERE id = %s", (me.id,))
            number = 0
            async with asyncio.timeout(10):
                while number == 0:
                    await asyncio.sleep(0.02)
                    row = await (await connection.execute(count, (me.id,))).fetchone()
                    number = row["number"] if row else 0
        registry.close()

    assert number == len(registry.plugins) > 0


async def test_a_worker_of_one_plugin_loads_that_and_those_that_bring_providers(database: TestDatabase) -> None:
    async with Database.open(Settings.model_validate({"DATABASE_URL": database.url})) as opened:
        everything = await install(opened, ROOT, plugins_path="", auto_enable=False)
        one = await install(opened, ROOT, plugins_path="", auto_enable=False, only="@latchflow/plugin-webhook")

    with_providers = {plugin for plugin, _ in everything.providers}
    assert with_providers
    assert set(one.plugins) == {"@latchflow/plugin-webhook"} | with_providers < set(everything.plugins)
    for registry in (everything, one):
        registry.close()

"""Hot reload: a changed plugin is checked and takes over in every process, and what runs goes on."""

import asyncio
import gc
import linecache
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from watchfiles import awatch

from latchflow.runtime.invoking.invoker import Success, invoke
from latchflow.runtime.lifecycle import hot_reload
from latchflow.runtime.lifecycle.running import RunningPlugins
from latchflow.runtime.lifecycle.usage import PluginStats
from tests.support.execution import Deployment
from tests.support.processes import Folders, process, until
from tests.unit.runtime.invoking import call_of
from tests.unit.runtime.plugin_folders import write_plugin

NAME = "acme-testing"

CODE = """
import asyncio
from pathlib import Path

from latchflow.sdk import ActionCall, Plugin

from .parts import VERSION

plugin = Plugin()
NOTES = Path({notes!r})


def note(text):
    with NOTES.open("a") as file:
        file.write(f"{{text}} {{VERSION}}\\n")


@plugin.action("which", display_name="Which", config_schema={{"type": "object"}})
async def which(call: ActionCall) -> dict:
    await asyncio.sleep(0.02)
    from . import late  # read by this version only now

    return {{"version": VERSION, "late": late.VERSION}}


@plugin.action("wait", display_name="Wait", config_schema={{"type": "object"}})
class Wait:
    async def execute(self, call: ActionCall) -> dict:
        while not Path({notes!r} + ".go").exists():
            await asyncio.sleep(0.02)
        return {{"version": VERSION}}

    def dispose(self):
        note("dispose of the action")


@plugin.on_dispose
async def clean_up():
    note("dispose of the plugin")
"""


class Plugin:
    """A plugin whose versions differ by a number in two of its modules."""

    def __init__(self, folders: Folders, tmp_path: Path) -> None:
        self.notes = tmp_path / "notes"
        self.folder = write_plugin(folders.plugins, name=NAME, code=CODE.format(notes=str(self.notes)))
        (self.folder / "parts").mkdir()
        self.become(1)

    def become(self, number: int) -> None:
        for name in ("late.py", "parts/__init__.py"):
            (self.folder / name).write_text(f"VERSION = {number}\n")

    def noted(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def let_go(self) -> None:
        Path(f"{self.notes}.go").touch()


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders.below(tmp_path)


@pytest.fixture
def plugin(folders: Folders, tmp_path: Path) -> Plugin:
    return Plugin(folders, tmp_path)


async def call(plugins: RunningPlugins, key: str = "which") -> dict[str, Any]:
    """One call as a worker makes it."""
    action = plugins.live.snapshot.actions[NAME, key]
    with action.plugin.uses:
        result = await invoke(action, call_of({}, 20))
    assert isinstance(result, Success), result
    output: dict[str, Any] = result.output
    return output


def runs(plugins: RunningPlugins, number: int) -> Callable[[], Any]:
    async def is_so() -> bool:
        return bool((await call(plugins))["version"] == number)

    return is_so


async def document(deployment: Deployment) -> dict[str, Any]:
    (row,) = await deployment.rows("SELECT * FROM plugins WHERE name = %s", NAME)
    return row


async def test_a_change_takes_over_in_every_process(deployment: Deployment, folders: Folders, plugin: Plugin) -> None:
    async with (
        process(deployment, folders, role="api", reloads=True, watches=True) as api,
        process(deployment, folders, reloads=True) as worker,
    ):
        first = await document(deployment)
        plugin.become(2)
        # Not called before: modules are the interpreter's, which these two processes of a test share.
        await until(
            lambda: all(one.live.snapshot.plugins[NAME].code_hash != first["code_hash"] for one in (api, worker))
        )
        await until(runs(api, 2))
        await until(runs(worker, 2))
        second = await document(deployment)
        await until(lambda: _agree(deployment, second["code_hash"]))

    assert first["code_hash"] != second["code_hash"]
    assert (second["status"], second["error"]) == ("ENABLED", None)


async def _agree(deployment: Deployment, code_hash: str) -> bool:
    rows = await deployment.rows("SELECT code_hash FROM plugin_instances")
    return [row["code_hash"] for row in rows] == [code_hash, code_hash]


async def test_a_broken_version_leaves_the_old_one_running_and_says_why_until_it_is_mended(
    deployment: Deployment, folders: Folders, plugin: Plugin
) -> None:
    async with process(deployment, folders, reloads=True, watches=True) as plugins:
        (plugin.folder / "parts" / "__init__.py").write_text("VERSION = 1 / 0\n")
        await until(lambda: _has_error(deployment))
        broken = await document(deployment)
        still = await call(plugins)
        plugin.become(1)
        await until(lambda: _has_no_error(deployment))
        mended = await document(deployment)

    assert broken["status"] == "ENABLED"
    assert f"{plugin.folder}/parts/__init__.py:1: ZeroDivisionError" in broken["error"]
    assert still == {"version": 1, "late": 1}
    assert (mended["status"], mended["code_hash"]) == ("ENABLED", broken["code_hash"])


async def _has_error(deployment: Deployment) -> bool:
    return (await document(deployment))["error"] is not None


async def _has_no_error(deployment: Deployment) -> bool:
    return (await document(deployment))["error"] is None


async def test_a_call_in_flight_ends_on_the_old_code_and_only_then_is_that_disposed_of_once(
    deployment: Deployment, folders: Folders, plugin: Plugin
) -> None:
    async with process(deployment, folders, reloads=True, watches=True) as plugins:
        waiting = asyncio.create_task(call(plugins, "wait"))
        old = plugins.live.snapshot.plugins[NAME]
        plugin.become(2)
        await until(runs(plugins, 2))
        meanwhile = plugin.noted()
        plugin.let_go()
        answer = await waiting
        await until(lambda: not plugins.live.is_leaving(NAME, old.code_hash))
        after = plugin.noted()

    assert (meanwhile, answer) == ([], {"version": 1})
    assert after == ["dispose of the action 1", "dispose of the plugin 1"]
    assert plugin.noted() == [*after, "dispose of the action 2", "dispose of the plugin 2"]
    assert not [name for name in sys.modules if name.startswith("lp_") and old.code_hash[:16] in name]
    assert not [name for name in linecache.cache if str(folders.cache) in name]


async def test_a_version_that_is_wanted_again_while_its_calls_end_is_not_loaded_twice(
    deployment: Deployment, folders: Folders, plugin: Plugin
) -> None:
    async with process(deployment, folders, reloads=True, watches=True) as plugins:
        waiting = asyncio.create_task(call(plugins, "wait"))
        old = plugins.live.snapshot.plugins[NAME]
        plugin.become(2)
        await until(runs(plugins, 2))
        plugin.become(1)
        await until(runs(plugins, 1))
        again = plugins.live.snapshot.plugins[NAME]
        plugin.let_go()
        await waiting

    assert again.loop is old.loop
    assert sorted(plugin.noted()) == sorted(
        f"dispose of the {what} {number}" for what in ("action", "plugin") for number in (1, 2)
    )


async def test_folders_that_appear_and_vanish_are_followed(
    deployment: Deployment, folders: Folders, plugin: Plugin
) -> None:
    async with process(deployment, folders, reloads=True, watches=True) as plugins:
        write_plugin(folders.plugins, name="acme-new")
        await until(lambda: "acme-new" in plugins.live.snapshot.plugins)
        for file in sorted(plugin.folder.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        plugin.folder.rmdir()
        await until(lambda: NAME not in plugins.live.snapshot.plugins)

    row = await document(deployment)
    assert row["status"] == "FAILED"
    assert "Put its folder back" in row["error"]


async def test_a_version_that_hangs_holds_up_no_other_plugin(
    deployment: Deployment, folders: Folders, plugin: Plugin
) -> None:
    other = write_plugin(folders.plugins, name="acme-other")
    async with process(deployment, folders, reloads=True, watches=True) as plugins:
        (other / "__init__.py").write_text("while True: pass\n")
        await until(lambda: bool(plugins.installer._checking))
        plugin.become(2)
        await until(runs(plugins, 2), seconds=6)

        assert "acme-other" in plugins.live.snapshot.plugins


async def test_a_bad_version_is_not_checked_again_when_another_plugin_changes(
    deployment: Deployment, folders: Folders, plugin: Plugin, tmp_path: Path
) -> None:
    async with process(deployment, folders, reloads=True) as plugins:
        notes = tmp_path / "checks"
        code = f"from pathlib import Path\nwith Path({str(notes)!r}).open('a') as f: f.write('x')\n1 / 0\n"
        (plugin.folder / "__init__.py").write_text(code)
        await plugins.installer.refresh()
        await plugins.installer.refresh()
        assert notes.read_text() == "x"
        await plugins.installer.refresh(only=NAME)
        assert notes.read_text() == "xx"


async def test_a_watch_that_breaks_starts_again_and_a_folder_that_appears_is_watched(
    deployment: Deployment, folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken: list[bool] = []

    def breaks_once(*arguments: Any, **options: Any) -> Any:
        if not broken:
            broken.append(True)
            raise OSError("OS file watch limit reached")
        return awatch(*arguments, **options)

    monkeypatch.setattr(hot_reload, "awatch", breaks_once)
    path = f"{folders.plugins}:{tmp_path / 'later'}"
    async with process(deployment, folders, reloads=True, watches=True, path=path) as plugins:
        await until(lambda: bool(broken))
        write_plugin(folders.plugins, name="acme-first")
        await until(lambda: "acme-first" in plugins.live.snapshot.plugins)
        write_plugin(tmp_path / "later", name="acme-second")
        await until(lambda: "acme-second" in plugins.live.snapshot.plugins)


async def test_without_hot_reload_a_process_keeps_what_it_loaded_and_differs_from_one_that_restarted(
    deployment: Deployment, folders: Folders, plugin: Plugin
) -> None:
    async with process(deployment, folders) as old:
        plugin.become(2)
        async with process(deployment, folders) as new:
            await old.follower.follow()
            assert ((await call(old))["version"], (await call(new))["version"]) == (1, 2)
            hashes = await deployment.rows("SELECT DISTINCT code_hash FROM plugin_instances")

    assert len(hashes) == 2


async def test_reloads_under_load_fail_no_call_and_mix_no_versions(
    deployment: Deployment, folders: Folders, plugin: Plugin
) -> None:
    answers: list[dict[str, Any]] = []
    by_hash: dict[str, list[dict[str, Any]]] = {}
    over = asyncio.Event()

    async def load(plugins: RunningPlugins) -> None:
        async with asyncio.TaskGroup() as calls:
            while not over.is_set():
                calls.create_task(keep(plugins))
                await asyncio.sleep(0.05)

    async def keep(plugins: RunningPlugins) -> None:
        code_hash = plugins.live.snapshot.plugins[NAME].code_hash
        answers.append(await call(plugins))
        by_hash.setdefault(code_hash, []).append(answers[-1])

    def answered(number: int) -> Callable[[], bool]:
        return lambda: bool(answers) and answers[-1]["version"] == number

    async with process(deployment, folders, reloads=True, watches=True) as plugins:
        loading = asyncio.create_task(load(plugins))
        for number in (2, 3, 4):
            plugin.become(number)
            await until(answered(number))
        over.set()
        await loading

    assert {answer["version"] for answer in answers} >= {1, 2, 3, 4}
    # Two files make a version; what is between two writes may be one of its own, but none changes under a call.
    assert [given for given in by_hash.values() if given.count(given[0]) != len(given)] == []
    assert len(answers) > 20


@pytest.mark.long
async def test_a_hundred_reloads_do_not_grow_memory_much(
    deployment: Deployment, folders: Folders, plugin: Plugin
) -> None:
    sizes = []
    async with process(deployment, folders, reloads=True) as plugins:
        for number in range(110):
            plugin.become(number)
            (plugin.folder / "data.py").write_text(f"DATA = list(range({number}, {number} + 50_000))\n")
            await plugins.installer.refresh()
            await until(runs(plugins, number))
            if number % 10 == 9:
                gc.collect()
                sizes.append(psutil.Process().memory_info().rss)
        await until(lambda: len([name for name in sys.modules if name.startswith("lp_")]) <= 4)
        stats = plugins.live.snapshot.plugins[NAME].stats

    assert isinstance(stats, PluginStats)
    assert sizes[-1] - sizes[0] < 12 * 1024 * 1024, [size // 1024 for size in sizes]

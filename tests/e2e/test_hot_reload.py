"""A plugin that changes while a real stack with two workers runs its actions."""

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.stack import FINAL, PLUGINS, Stack

pytestmark = pytest.mark.long
_PER_SECOND = 20
_SECONDS = 15


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """A folder of plugins that the test may change."""
    return Path(shutil.copytree(PLUGINS, tmp_path / "plugins", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def reloading(tmp_path: Path, plugins: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path, "--processes", "2", PLUGINS_PATH=str(plugins), PLUGIN_HOT_RELOAD="true")
    yield stack
    stack.close()


def plugin_of(stack: Stack) -> dict[str, Any]:
    (found,) = [one for one in stack.get("/admin/plugins?limit=200")["items"] if one["name"] == "acme-sleeper"]
    document: dict[str, Any] = found
    return document


def until_version(stack: Stack, version: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        plugin = plugin_of(stack)
        running = [(one["version"], one["codeHash"]) for one in plugin["instances"]]
        if plugin["version"] == version and running == [(version, plugin["codeHash"])] * 3:
            return
        assert time.monotonic() < deadline, plugin
        time.sleep(0.1)


def test_reloads_under_twenty_actions_a_second_fail_none(reloading: Stack, plugins: Path) -> None:
    trigger = reloading.sleeping_pipeline("reloaded", seconds=0.2)
    toml = plugins / "sleeper" / "plugin.toml"
    whole = toml.read_text()
    (first,) = [line.split('"')[1] for line in whole.splitlines() if line.startswith("version")]
    fired, versions = [], [first]
    started = time.monotonic()
    for number in range(_PER_SECOND * _SECONDS):
        if number % (_PER_SECOND * 4) == _PER_SECOND:
            versions.append(f"{len(versions) + 1}.0.0")
            toml.write_text(whole.replace(f'"{first}"', f'"{versions[-1]}"'))
        fired.append(reloading.fire(trigger, {"number": number}))
        time.sleep(max(0.0, started + number / _PER_SECOND - time.monotonic()))
    until_version(reloading, versions[-1])

    attempts = []
    for event_id in fired:
        event = reloading.until_ended(event_id, 60)
        assert event["status"] in FINAL
        assert event["status"] == "SUCCEEDED", event
        attempts += event["runs"][0]["invocations"][0]["attempts"]
    by_version: dict[str, set[str]] = {}
    for attempt in attempts:
        by_version.setdefault(attempt["pluginVersion"], set()).add(attempt["codeHash"])

    assert len(attempts) == len(fired)
    assert set(by_version) == set(versions)
    assert all(len(hashes) == 1 for hashes in by_version.values())
    assert plugin_of(reloading)["mixed"] is False


def test_enabling_and_disabling_need_no_restart(reloading: Stack) -> None:
    trigger = reloading.sleeping_pipeline("switched", seconds=0)
    plugin = plugin_of(reloading)
    path = f"/admin/plugins/{plugin['id']}"

    assert reloading.until_ended(reloading.fire(trigger, {"n": 1}), 15)["status"] == "SUCCEEDED"
    assert reloading.api.patch(path, json={"status": "DISABLED"}).status_code == 200
    deadline = time.monotonic() + 5
    while plugin_of(reloading)["instances"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    ended = reloading.until_ended(reloading.fire(trigger, {"n": 2}), 15)
    assert ended["status"] == "FAILED"
    assert ended["runs"][0]["invocations"][0]["status"] == "FAILED_PERMANENT"
    assert reloading.api.patch(path, json={"status": "ENABLED"}).status_code == 200
    assert reloading.until_ended(reloading.fire(trigger, {"n": 3}), 15)["status"] == "SUCCEEDED"

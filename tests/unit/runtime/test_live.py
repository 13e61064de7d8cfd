"""What a process runs, at its end."""

import asyncio
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from latchflow.runtime.lifecycle import live as module
from latchflow.runtime.lifecycle.live import LiveRegistry
from latchflow.runtime.lifecycle.registry import LoadedPlugin, Registry
from latchflow.runtime.loader.copies import Copy
from latchflow.sdk import ActionCall, Plugin
from tests.support.registries import registry_of


def part(name: str, disposed: list[str], gate: asyncio.Event | None = None) -> tuple[Registry, LoadedPlugin]:
    """A plugin that notes its disposal, and waits for the gate in it."""
    bound = Plugin()

    @bound.action("noop", display_name="Noop", config_schema={"type": "object"})
    async def noop(_: ActionCall[Any]) -> None: ...

    @bound.on_dispose
    async def clean_up() -> None:
        disposed.append(name)
        while gate is not None and not gate.is_set():
            await asyncio.sleep(0.01)

    registry = registry_of(bound)
    (plugin,) = registry.plugins.values()
    plugin = replace(plugin, name=name, code_hash=name * 64)
    return replace(registry, plugins={name: plugin}), plugin


async def test_a_version_that_ends_by_itself_while_another_is_put_away_is_put_away_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_GRACE_SECONDS", 0.05)
    disposed: list[str] = []
    gate, live = asyncio.Event(), LiveRegistry()
    (first, slow), (second, other) = part("a", disposed, gate), part("b", disposed)
    live.put(first)
    live.put(second)
    slow.uses.__enter__()
    other.uses.__enter__()

    closing = asyncio.create_task(live.close())
    while disposed != ["a"]:
        await asyncio.sleep(0.01)
    other.uses.__exit__(None, None, None)
    while live.is_leaving("b", "b" * 64):
        await asyncio.sleep(0.01)
    gate.set()
    await closing

    assert disposed == ["a", "b"]


def test_a_copy_is_released_once(tmp_path: Path) -> None:
    copy = Copy(path=tmp_path, _lock=os.open(tmp_path, os.O_RDONLY))
    copy.release()
    other = os.open(tmp_path, os.O_RDONLY)  # gets the number that is free
    copy.release()

    os.close(other)

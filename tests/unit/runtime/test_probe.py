"""Bad plugins, each checked in the throwaway process that real ones are checked in."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from latchflow.runtime.contract import ContractError
from latchflow.runtime.loader.discovery import read_source
from latchflow.runtime.loader.probe import check
from tests.unit.runtime.plugin_folders import GOOD, write_plugin


async def verdict(folder: Path) -> str:
    with pytest.raises(ContractError) as caught:
        await check(read_source(folder))
    return str(caught.value)


async def test_a_good_plugin_shows_its_contract(tmp_path: Path) -> None:
    contract = await check(read_source(write_plugin(tmp_path)))
    (capability,) = contract.capabilities

    assert (capability.kind, capability.key, capability.scopes) == ("ACTION", "greet", ("email:send",))


@pytest.mark.parametrize(
    ("code", "quoted"),
    [
        ("import sys\nsys.exit(0)", "__init__.py:2: SystemExit"),
        ("import os\nos._exit(0)", "ended the process"),
        ("import os\nos.abort()", "ended the process"),
        ("def broken(:\n    pass", "__init__.py:1: "),
        ("x = 1\nraise ValueError('no')", "__init__.py:2: ValueError: no"),
        ("from . import missing", "missing"),
        ("import latchflow.sdk", "bind `plugin`"),
        ("plugin = 5", "bind `plugin`"),
        ("from latchflow.sdk import Plugin\nplugin = Plugin()", "contributes nothing"),
        (GOOD.replace("(call: ActionCall)", "()"), "'greet': the function must take (call)"),
        (GOOD.replace("(call: ActionCall)", "(call, other)"), "'greet': the function must take (call)"),
        (GOOD + GOOD.partition("plugin = Plugin()")[2], "'greet' is registered twice"),
        (GOOD.replace("email:send", "storage:read"), "'storage:read' is missing in plugin.toml"),
        (GOOD.replace('"greet"', '"gr eet"'), "a key has letters"),
        (GOOD.replace('"Greet"', '" "'), "display_name is no line of text"),
        (GOOD.replace('{"type": "object"}', '{"type": "objekt"}'), "config_schema/type"),
        (GOOD.replace('{"type": "object"}', "5"), "neither a JSON Schema"),
        (GOOD.replace('{"type": "object"}', '{"default": object()}'), "gives no JSON Schema"),
    ],
)
async def test_a_bad_plugin_is_refused_with_its_culprit(tmp_path: Path, code: str, quoted: str) -> None:
    assert quoted in await verdict(write_plugin(tmp_path, code=code))


async def test_a_plugin_that_hangs_at_import_is_given_up(tmp_path: Path) -> None:
    source = read_source(write_plugin(tmp_path, code="import time\ntime.sleep(60)"))

    with pytest.raises(ContractError, match=r"longer than 0\.3 s"):
        await check(source, limit_seconds=0.3)


async def test_a_child_that_an_import_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    note = f"open({str(tmp_path / 'pid')!r}, 'w').write(str(pid))"
    code = f"import os, time\nif not (pid := os.fork()):\n    time.sleep(60)\n{note}"
    source = read_source(write_plugin(tmp_path, code=code))
    with pytest.raises(ContractError):
        await check(source, limit_seconds=3)
    child = int((tmp_path / "pid").read_text())

    async with asyncio.timeout(5):
        while _is_alive(child):
            await asyncio.sleep(0.01)


async def test_a_thread_that_an_import_leaves_behind_is_refused_and_holds_nothing_up(tmp_path: Path) -> None:
    code = f"import threading, time\nthreading.Thread(target=time.sleep, args=(60,), name='stray').start()\n{GOOD}"
    started = time.monotonic()

    assert "it started the thread 'stray'" in await verdict(write_plugin(tmp_path, code=code))
    assert time.monotonic() - started < 8


async def test_an_import_sees_no_key_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", "one:secret")
    monkeypatch.setenv("DATABASE_URL", "postgresql://secret")
    code = f"import os\nassert not [n for n in os.environ if n in ('ENCRYPTION_KEY', 'DATABASE_URL')]\n{GOOD}"

    assert (await check(read_source(write_plugin(tmp_path, code=code)))).capabilities


async def test_what_an_import_prints_is_no_verdict(tmp_path: Path) -> None:
    code = f"import sys\nprint('{{}}' * 100000)\nprint('x', file=sys.stderr)\n{GOOD}"

    assert (await check(read_source(write_plugin(tmp_path, code=code)))).capabilities


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
    finally:
        os.sched_yield()

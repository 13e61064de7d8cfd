"""The action ``command.run``, on a plugin loop as in a worker, with real programs."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from latchflow.runtime.invoking.invoker import Result, Success, invoke
from latchflow.runtime.isolation.loops import PluginLoop
from latchflow.runtime.lifecycle.registry import LoadedAction
from plugins.core import plugin
from plugins.core.process import MAX_BYTES
from tests.support.registries import NAME, registry_of
from tests.unit.runtime.invoking import call_of, failed

PYTHON = sys.executable
_SCOPES = ("email:send", "users:write", "pipelines:toggle", "storage:read", "storage:write", "bundles:toggle")


@pytest.fixture
async def action() -> AsyncIterator[LoadedAction]:
    registry = registry_of(plugin, scopes=_SCOPES)
    yield registry.actions[NAME, "command.run"]
    registry.close()


async def run(action: LoadedAction, config: dict[str, Any], *, seconds: float = 30) -> Result:
    jsonschema.validate(config, action.schema)
    return await invoke(action, call_of(config, seconds))


async def output(action: LoadedAction, config: dict[str, Any]) -> dict[str, Any]:
    result = await run(action, config)
    assert isinstance(result, Success), result
    shown: dict[str, Any] = result.output
    return shown


async def lives(pid: int) -> bool:
    """Whether a process is still there; a zombie, which nobody of the test's can reap, is not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def is_gone(pid: int) -> bool:
    async with asyncio.timeout(10):
        while await lives(pid):
            await asyncio.sleep(0.02)
    return True


async def read(path: Path) -> str:
    async with asyncio.timeout(10):
        while not path.exists() or not path.read_text().strip():
            await asyncio.sleep(0.02)
    return path.read_text()


async def test_a_program_gets_its_arguments_as_they_are_and_its_output_comes_back(action: LoadedAction) -> None:
    argv = ["printf", "%s|", "a b", "$HOME", "; rm -rf x", "*", ""]

    assert await output(action, {"argv": argv}) == {
        "exitCode": 0,
        "stdout": "a b|$HOME|; rm -rf x|*||",
        "stderr": "",
    }


async def test_it_inherits_nothing_of_core(action: LoadedAction, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCRYPTION_KEY", "of-core")
    config = {"argv": ["env"], "env": {"GREETING": "hello\nyou"}, "secretEnv": {"API_KEY": "swordfish-1"}}

    shown = (await output(action, config))["stdout"]

    names = {line.partition("=")[0] for line in shown.splitlines() if "=" in line}
    assert names == {"PATH", "HOME", "LANG", "LATCHFLOW_IDEMPOTENCY_KEY", "GREETING", "API_KEY"}
    assert "API_KEY=swordfish-1" in shown


async def test_it_reads_what_stdin_brings_and_runs_where_it_shall(action: LoadedAction, tmp_path: Path) -> None:
    code = "import os, sys; print(os.getcwd(), sys.stdin.read())"

    shown = await output(action, {"argv": [PYTHON, "-c", code], "cwd": str(tmp_path), "stdin": "grüße"})

    assert shown["stdout"] == f"{tmp_path} grüße\n"


async def test_a_program_that_reads_nothing_of_much_input_is_no_failure(action: LoadedAction) -> None:
    assert (await output(action, {"argv": ["true"], "stdin": "x" * 1_000_000}))["exitCode"] == 0


async def test_another_exit_status_is_a_retryable_failure_with_the_end_of_stderr_and_no_secret(
    action: LoadedAction,
) -> None:
    code = "import os, sys; sys.stderr.write('x' * 9000 + ' no such key: ' + os.environ['API_KEY']); sys.exit(7)"

    result = failed(await run(action, {"argv": [PYTHON, "-c", code], "secretEnv": {"API_KEY": "swordfish-1"}}))

    assert (result.error_type, result.is_retryable) == ("CommandFailed", True)
    assert "exit status 7" in result.message
    assert result.message.endswith("no such key: [secret]")
    assert len(result.message) < 1200


async def test_a_program_that_a_signal_ended_says_which(action: LoadedAction) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"

    assert "signal 11" in failed(await run(action, {"argv": [PYTHON, "-c", code]})).message


@pytest.mark.parametrize(
    "config",
    [{"argv": ["no-such-program-here"]}, {"argv": ["true"], "cwd": "/no/such/folder"}, {"argv": ["/etc/passwd"]}],
)
async def test_what_cannot_be_started_fails_for_good(action: LoadedAction, config: dict[str, Any]) -> None:
    result = failed(await run(action, config))

    assert (result.error_type, result.is_retryable) == ("CommandNotStarted", False)


async def test_long_output_is_cut_and_says_so(action: LoadedAction) -> None:
    code = f"import sys; sys.stdout.write('a' * {3 * MAX_BYTES}); sys.stderr.buffer.write(b'\\xff\\x00' * {MAX_BYTES})"

    shown = await output(action, {"argv": [PYTHON, "-c", code]})

    assert shown["stdout"].startswith("a" * MAX_BYTES)
    assert shown["stdout"].endswith(f"\n[{2 * MAX_BYTES} more bytes were left out]")
    assert shown["stderr"].startswith("\ufffd\ufffd")
    assert "more bytes were left out" in shown["stderr"][-60:]


_FAMILY = """
import os, subprocess, sys, time, signal
{before}
child = subprocess.Popen([sys.executable, "-c", "import signal, time; {ignore} time.sleep(600)"])
with open({path!r}, "w") as file:
    file.write(f"{{os.getpid()}} {{child.pid}}")
{after}
"""


def family(path: Path, *, before: str = "", ignore: str = "", after: str = "time.sleep(600)") -> list[str]:
    """A program that starts another one and tells the ids of both."""
    return [PYTHON, "-c", _FAMILY.format(path=str(path), before=before, ignore=ignore, after=after)]


async def test_its_own_time_limit_ends_it_with_all_that_it_started(action: LoadedAction, tmp_path: Path) -> None:
    result = failed(await run(action, {"argv": family(tmp_path / "ids"), "timeoutSeconds": 2}))

    assert (result.error_type, result.is_retryable) == ("CommandTimedOut", True)
    assert [await is_gone(int(pid)) for pid in (tmp_path / "ids").read_text().split()] == [True, True]


async def test_the_end_of_the_attempt_ends_even_who_ignores_sigterm(action: LoadedAction, tmp_path: Path) -> None:
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN);"

    result = failed(await run(action, {"argv": family(tmp_path / "ids", before=stubborn, ignore=stubborn)}, seconds=2))

    assert result.is_timeout
    assert [await is_gone(int(pid)) for pid in (tmp_path / "ids").read_text().split()] == [True, True]


async def test_cancelling_ends_it_and_gives_it_time_to_tidy_up(action: LoadedAction, tmp_path: Path) -> None:
    tidy = f"signal.signal(signal.SIGTERM, lambda *_: (open({str(tmp_path / 'tidy')!r}, 'w').write('x'), sys.exit()))"
    task = asyncio.create_task(run(action, {"argv": family(tmp_path / "ids", before=tidy)}))
    ids = (await read(tmp_path / "ids")).split()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert [await is_gone(int(pid)) for pid in ids] == [True, True]
    assert (tmp_path / "tidy").exists()


async def test_a_worker_that_stops_ends_it(tmp_path: Path) -> None:
    registry = registry_of(plugin, scopes=_SCOPES)
    task = asyncio.create_task(
        run(registry.actions[NAME, "command.run"], {"argv": family(tmp_path / "ids")}, seconds=60)
    )
    ids = (await read(tmp_path / "ids")).split()
    await asyncio.to_thread(registry.close)

    assert [await is_gone(int(pid)) for pid in ids] == [True, True]
    await asyncio.wait([task], timeout=5)
    task.cancel()
    await asyncio.wait([task])


async def test_what_it_leaves_behind_is_ended_and_not_waited_for(action: LoadedAction, tmp_path: Path) -> None:
    async with asyncio.timeout(10):
        shown = await output(action, {"argv": family(tmp_path / "ids", after="print('done')")})

    assert shown["stdout"] == "done\n"
    assert await is_gone(int((tmp_path / "ids").read_text().split()[1]))


async def test_it_is_in_a_session_of_its_own(action: LoadedAction) -> None:
    shown = await output(action, {"argv": [PYTHON, "-c", "import os; print(os.getsid(0), os.getpid())"]})

    session, pid = shown["stdout"].split()
    assert session == pid
    assert int(session) != os.getsid(0)


@pytest.mark.parametrize(
    "config",
    [
        {"argv": []},
        {"argv": ["a\0b"]},
        {"argv": "ls -l"},
        {"argv": ["x"], "env": {"A=B": "c"}},
        {"argv": ["x"], "env": {"A": "b\0"}},
        {"argv": ["x"], "cwd": "relative"},
        {"argv": ["x"], "timeoutSeconds": 116},
        {"argv": ["x"], "shell": True},
        {"argv": ["x"], "overridable": ["secretEnv"]},
    ],
)
def test_the_schema_refuses(config: dict[str, Any]) -> None:
    (capability,) = [entry for entry in plugin.actions if entry.key == "command.run"]
    model: Any = capability.config_schema

    assert not jsonschema.Draft202012Validator(model.model_json_schema()).is_valid(config)


async def test_without_argv_nothing_runs(action: LoadedAction) -> None:
    assert failed(await run(action, {})).error_type == "MissingField"


async def test_it_runs_beside_others_on_a_loop_of_no_main_thread(action: LoadedAction) -> None:
    assert isinstance(action.plugin.loop, PluginLoop)
    results = await asyncio.gather(*(output(action, {"argv": ["printf", str(number)]}) for number in range(20)))

    assert [result["stdout"] for result in results] == [str(number) for number in range(20)]

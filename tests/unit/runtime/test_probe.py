import time
from pathlib import Path

import psutil
import pytest

from latchflow.runtime import probe
from latchflow.runtime.contract import ContractError
from latchflow.runtime.discovery import read_source

_IMPORT = """
import os, pathlib, time

child = os.fork()
if child:
    (pathlib.Path(__file__).parent.parent / "child").write_text(str(child))
time.sleep(60)
"""


def _is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_a_check_that_overruns_is_ended_with_all_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "plugin.toml").write_text('name = "acme-slow"\nversion = "1.0.0"\nsdk = ">=1,<2"\nscopes = []\n')
    (folder / "__init__.py").write_text(_IMPORT)
    monkeypatch.setattr(probe, "_LIMIT_SECONDS", 5.0)

    with pytest.raises(ContractError, match="longer than 5 s"):
        await probe.check(read_source(folder))

    child = int((tmp_path / "child").read_text())
    deadline = time.monotonic() + 2
    while _is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not _is_running(child)

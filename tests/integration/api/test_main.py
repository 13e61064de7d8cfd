import os
import socket
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from latchflow.key_material import new_encryption_key
from tests.support.postgres import TestDatabase

ROOT = Path(__file__).parents[3]


def run_api(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *(arguments or ("-m", "api"))],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"ENCRYPTION_KEY": ""}, "ENCRYPTION_KEY"),
        ({"ENCRYPTION_KEY": "not-a-key"}, "ENCRYPTION_KEY"),
        ({"DATABASE_URL": ""}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://u:p@127.0.0.1:1/x"}, "DATABASE_URL"),
        ({"DATABASE_URL": "postgresql://u:hunter2@["}, "DATABASE_URL"),
        ({"LATCHFLOW_API_PORT": "many"}, "LATCHFLOW_API_PORT"),
        ({"LATCHFLOW_BOOTSTRAP_TOKEN": "hunter2"}, "LATCHFLOW_BOOTSTRAP_TOKEN"),
        ({"TEMPORAL_ADDRESS": "not a host"}, "TEMPORAL_ADDRESS"),
        ({"TEMPORAL_ADDRESS": "127.0.0.1:1"}, "nobody answers there. Start it"),
        ({"TEMPORAL_TLS_SERVER_CA_CERT_PATH": "/nonexistent"}, "/nonexistent"),
    ],
)
def test_a_setting_that_cannot_be_used_is_one_line(database: TestDatabase, changes: dict[str, str], named: str) -> None:
    usable = {"DATABASE_URL": database.url, "ENCRYPTION_KEY": new_encryption_key(), "LATCHFLOW_API_PORT": "0"}

    done = run_api(usable | changes)

    assert done.returncode == (69 if "127.0.0.1:1/" in changes.get("DATABASE_URL", "") else 1)
    (line,) = done.stderr.splitlines()
    assert line.startswith("latchflow: ")
    assert named in line
    assert "hunter2" not in line
    assert done.stdout == ""


_HANGING = """
import asyncio, runpy, threading, uvicorn

class Hanging(uvicorn.Server):
    async def main_loop(self):
        asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)
        self.should_exit = True

uvicorn.Server = Hanging
runpy.run_module("api", run_name="__main__")
"""


def test_a_thread_that_never_comes_back_does_not_keep_the_process_alive(database: TestDatabase) -> None:
    with psycopg.connect(database.owner_url, autocommit=True) as connection:
        connection.execute("UPDATE deployment SET temporal_reached = '127.0.0.1:1 default'")
    usable = {
        "DATABASE_URL": database.url,
        "ENCRYPTION_KEY": new_encryption_key(),
        "LATCHFLOW_API_PORT": "0",
        "TEMPORAL_ADDRESS": "127.0.0.1:1",
    }

    done = run_api(usable, "-c", _HANGING)

    assert done.returncode == 0, done.stderr
    assert "api ready" in done.stderr


def test_listening_on_a_taken_port_names_the_setting() -> None:
    from api.__main__ import _listen
    from latchflow.errors import ConfigurationError
    from latchflow.settings import Settings

    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings.model_validate({"LATCHFLOW_API_PORT": taken.getsockname()[1]})

        with pytest.raises(ConfigurationError, match="LATCHFLOW_API_PORT"):
            _listen(settings)

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from latchflow.temporal.dispatch import Dispatcher, Firing
from latchflow.temporal.starting import WorkflowStarter
from tests.support.execution import FAKE_KEY, Deployment, Step
from tests.support.postgres import TestDatabase
from tests.support.processes import Folders, process, until
from tests.support.registries import NAME
from tests.unit.runtime.plugin_folders import write_plugin

ROOT = Path(__file__).resolve().parents[2]
KEY = "test:" + "A" * 43 + "="


def worker(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "worker.py", *arguments],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "LATCHFLOW_LOG_FORMAT": "console", **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], *parts: str, status: int = 1) -> None:
    lines = [line for line in done.stderr.splitlines() if line.startswith("latchflow: ")]

    assert done.returncode == status
    assert len(lines) == 1, done.stderr
    assert "Traceback" not in done.stderr
    for part in parts:
        assert part in lines[0]


def test_worker_without_a_key_says_how_to_make_one() -> None:
    assert_one_line(worker(), "ENCRYPTION_KEY is not set", "latchflow keys generate")


def test_worker_with_a_malformed_key_does_not_quote_it() -> None:
    done = worker(ENCRYPTION_KEY="k:notbase64!")

    assert_one_line(done, "Key 1 of ENCRYPTION_KEY is no base64")
    assert "notbase64" not in done.stderr


def test_worker_without_a_database_says_which_setting_to_mend() -> None:
    url = "postgresql://app:secret@127.0.0.1:1/latchflow"

    done = worker(ENCRYPTION_KEY=KEY, DATABASE_URL=url)

    assert_one_line(done, "DATABASE_URL cannot be used", status=69)
    assert "secret" not in done.stderr
    assert_one_line(worker(ENCRYPTION_KEY=KEY), "DATABASE_URL is not set")


def test_worker_without_temporal_says_which_setting_to_mend(database: TestDatabase) -> None:
    done = worker(ENCRYPTION_KEY=KEY, DATABASE_URL=database.url, TEMPORAL_ADDRESS="127.0.0.1:1")

    assert_one_line(
        done, "Temporal at 127.0.0.1:1 cannot be reached: nobody answers there. Start it", "TEMPORAL_ADDRESS", status=69
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "app:secret@host/latchflow"),
        ("SMTP_URL", "mail.example.org"),
        ("HTTP_EGRESS_ALLOW", "10.0.0.0/99"),
        ("TEMPORAL_ADDRESS", "not a host"),
        ("TEMPORAL_TLS_SERVER_CA_CERT_PATH", "/nonexistent"),
    ],
)
def test_worker_with_a_setting_that_cannot_be_used_says_which(database: TestDatabase, name: str, value: str) -> None:
    done = worker(**{"ENCRYPTION_KEY": KEY, "DATABASE_URL": database.url, name: value})

    assert_one_line(done, name.partition("_SERVER")[0])
    assert "secret" not in done.stderr


def test_worker_of_a_plugin_that_is_not_dedicated_says_where_to_name_it() -> None:
    done = worker("--plugin", "acme-one", ENCRYPTION_KEY=KEY, LATCHFLOW_DEDICATED_PLUGINS="acme-two")

    assert_one_line(done, "--plugin acme-one", "LATCHFLOW_DEDICATED_PLUGINS names acme-two")
    assert_one_line(worker("--plugin", "acme-one"), "names no plugin")


def test_worker_of_a_plugin_that_is_not_dedicated_does_not_blame_that_while_the_database_is_away() -> None:
    done = worker(
        "--plugin", "acme-one", ENCRYPTION_KEY=KEY, DATABASE_URL="postgresql://app:secret@127.0.0.1:1/latchflow"
    )

    assert_one_line(done, "The database of DATABASE_URL cannot be used", status=69)


def test_worker_with_an_argument_it_does_not_know_says_how_it_is_used() -> None:
    done = worker("--plugins", "x")

    assert done.returncode == 2
    assert "usage: worker.py [-h] [--plugin NAME]" in done.stderr


async def test_worker_of_a_plugin_that_is_not_found_says_where_to_look(
    database: TestDatabase, temporal_address: str
) -> None:
    done = await asyncio.to_thread(
        worker,
        "--plugin",
        "acme-one",
        ENCRYPTION_KEY=KEY,
        DATABASE_URL=database.url,
        TEMPORAL_ADDRESS=temporal_address,
        LATCHFLOW_DEDICATED_PLUGINS="acme-one",
    )

    assert_one_line(done, "--plugin acme-one: this plugin is not here", "PLUGINS_PATH")


async def test_a_plugin_that_is_not_enabled_yet_is_run_by_its_own_worker_once_it_is(
    deployment: Deployment, temporal_address: str, tmp_path: Path
) -> None:
    folders = Folders.below(tmp_path)
    write_plugin(folders.plugins)

    with dedicated_worker(deployment, temporal_address, folders, LATCHFLOW_DEDICATED_PLUGINS=NAME) as log:
        await until(lambda: "worker ready" in log.text, seconds=30)
        assert "this worker's plugin is not enabled: it is loaded as soon as it is" in log.text
        async with process(deployment, folders):

            async def is_loaded() -> bool:
                return bool(
                    await deployment.rows(
                        """
                        SELECT state FROM plugin_instances JOIN processes ON processes.id = process_id
                        WHERE processes.stats ->> 'dedicatedPlugin' = %s AND state = 'loaded'
                        """,
                        NAME,
                    )
                )

            await until(is_loaded, seconds=30)


async def test_a_worker_starts_for_what_waits_on_a_queue_whose_plugin_is_named_no_more(
    deployment: Deployment, temporal_address: str, tmp_path: Path
) -> None:
    folders = Folders.below(tmp_path)
    write_plugin(folders.plugins)
    starter = WorkflowStarter(await Client.connect(temporal_address))
    dispatcher = Dispatcher(deployment.database, deployment.keyring, starter, dedicated=[NAME])
    trigger_id = await deployment.define([Step(action="greet", name="one")])
    await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}))
    await dispatcher.close()

    with dedicated_worker(deployment, temporal_address, folders, PLUGIN_AUTO_ENABLE="true") as log:
        await until(lambda: "worker ready" in log.text, seconds=30)

    assert "does not name this plugin: the worker does what came before, no more" in log.text
    assert "steps=1" in log.text


_STRAINED = """
import threading
from contextlib import asynccontextmanager

import worker
from latchflow.runtime.isolation.strain import STRAIN

own = worker._grace

@asynccontextmanager
async def grace(stop, actions):
    async with own(stop, actions):
        yield
        await stop.wait()  # an attempt in progress would hold it as long

worker._grace = grace
for _ in range(5):
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    STRAIN.leave(thread, plugin="acme", capability="hold")
worker.end_process(worker.run([]))
"""


@pytest.mark.parametrize("is_told", [True, pytest.param(False, marks=pytest.mark.long)])
async def test_a_worker_that_drains_says_so_and_one_told_to_stop_meanwhile_ends_with_status_0(
    deployment: Deployment, temporal_address: str, tmp_path: Path, is_told: bool
) -> None:
    program = _STRAINED if is_told else _STRAINED.replace("await stop.wait()", "await asyncio.sleep(8)")
    with (tmp_path / "worker.log").open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", f"import asyncio{program}"],
            cwd=ROOT,
            env={
                "PATH": "/usr/bin:/bin",
                "ENCRYPTION_KEY": FAKE_KEY,
                "DATABASE_URL": deployment.urls.url,
                "TEMPORAL_ADDRESS": temporal_address,
                "TEMPORAL_CONFIG_FILE": os.devnull,
                "LATCHFLOW_PLUGIN_CACHE_DIR": str(tmp_path / "copies"),
            },
            stdout=output,
            stderr=output,
        )

    async def drains() -> bool:
        rows = await deployment.rows(
            "SELECT pid FROM processes WHERE role = 'worker' AND stats ->> 'draining' = 'true'"
        )
        return bool(rows)

    try:
        await until(drains, seconds=30)
        if is_told:
            process.terminate()
        status = await asyncio.to_thread(process.wait, 30)
    finally:
        process.kill()
        process.wait()

    assert status == (0 if is_told else 75)


class Log:
    """What a program has printed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def text(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self._path.read_text())


@contextmanager
def dedicated_worker(
    deployment: Deployment, temporal_address: str, folders: Folders, **environment: str
) -> Iterator[Log]:
    path = folders.home.with_name("worker.log")
    with path.open("w") as output:
        program = subprocess.Popen(
            [sys.executable, "worker.py", "--plugin", NAME],
            cwd=ROOT,
            env={
                "PATH": "/usr/bin:/bin",
                "LATCHFLOW_LOG_FORMAT": "console",
                "ENCRYPTION_KEY": FAKE_KEY,
                "DATABASE_URL": deployment.urls.url,
                "TEMPORAL_ADDRESS": temporal_address,
                "TEMPORAL_CONFIG_FILE": os.devnull,
                "PLUGINS_PATH": str(folders.plugins),
                "LATCHFLOW_PLUGIN_CACHE_DIR": str(folders.cache),
                **environment,
            },
            stdout=output,
            stderr=output,
        )
    try:
        yield Log(path)
        program.terminate()
        assert program.wait(20) == 0, path.read_text()
    finally:
        program.kill()
        program.wait()


@pytest.fixture
async def temporal_address() -> AsyncIterator[str]:
    environment = await WorkflowEnvironment.start_local(
        dev_server_existing_path=str(Path(sys.executable).with_name("temporal"))
    )
    yield environment.client.service_client.config.target_host
    await environment.shutdown()

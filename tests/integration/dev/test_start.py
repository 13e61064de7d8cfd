import json
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import psycopg
import pytest
from temporalio.client import Client

from latchflow.dev.data_dir import _MADE
from tests.integration.dev.dev_process import DevProcess, wait_until

Start = Callable[..., DevProcess]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevProcess]:
    """One stack for all tests that only look, started by an operator with settings of another installation."""
    stack = DevProcess(
        tmp_path_factory.mktemp("running"),
        DATABASE_URL="postgresql://production/",
        DATABASE_MIGRATION_URL="postgresql://owner@production/",
        TEMPORAL_ADDRESS="production:7233",
        TEMPORAL_API_KEY="secret",
        PGSSLMODE="verify-full",
        HTTP_EGRESS_ALLOW="10.0.0.0/8",
        PLUGINS_PATH="/opt/plugins",
    )
    try:
        stack.until_ready()
        yield stack
    finally:
        stack.close()


async def test_a_ready_stack_says_where_everything_is_and_each_part_answers_there(running: DevProcess) -> None:
    stack = running

    ready = stack.ready

    assert list(ready) == [
        *("apiUrl", "adminToken", "temporalAddress", "temporalUiUrl", "temporalNamespace"),
        *("databaseUrl", "smtpSinkUrl", "workerMetricsUrl", "pids"),
    ]
    assert set(ready["pids"]) == {"temporal", "postgres", "api", "worker"}
    assert stat.S_IMODE(stack.ready_file.stat().st_mode) == 0o600
    async with httpx2.AsyncClient(trust_env=False) as http:
        assert (await http.get(f"{ready['apiUrl']}/readyz")).status_code == 200
        assert (await http.get(f"{ready['temporalUiUrl']}/healthz")).status_code == 200
        assert (await http.get(f"{ready['smtpSinkUrl']}/messages")).json() == {"items": []}
        settings = (await http.get(f"{ready['temporalUiUrl']}/api/v1/settings")).json()
        assert settings["Codec"]["Endpoint"].startswith(f"{ready['apiUrl']}/codec/ui/")
    client = await Client.connect(ready["temporalAddress"], namespace=ready["temporalNamespace"])
    assert await client.service_client.check_health()
    assert ready["adminToken"] in stack.output
    assert ready["temporalUiUrl"] in stack.output


def test_the_application_role_owns_nothing_and_passwords_are_asked_for(running: DevProcess) -> None:
    url = running.ready["databaseUrl"]

    with psycopg.connect(url, connect_timeout=5) as connection:
        role = connection.execute("SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user").fetchone()
        owners = connection.execute("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'").fetchall()
        database_owner = connection.execute(
            "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'latchflow'"
        )
        fsync = connection.execute("SHOW fsync").fetchone()

        assert role == ("latchflow_app", False)
        assert owners == [("latchflow_owner",)]
        assert database_owner.fetchone() == ("latchflow_owner",)
        assert fsync == ("on",)
    user, _, rest = url.removeprefix("postgresql://").partition(":")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://{user}:wrong@{rest.partition('@')[2]}", connect_timeout=5)


def test_api_and_worker_get_the_settings_of_the_stack_and_no_more_secrets_than_they_need(running: DevProcess) -> None:
    ready = running.ready

    api = json.loads((running.notes / "api.env.json").read_text())
    worker = json.loads((running.notes / "worker.env.json").read_text())

    smtp = api["SMTP_URL"].removeprefix("smtp://")
    for env in (api, worker):
        assert env["DATABASE_URL"] == ready["databaseUrl"]
        assert env["TEMPORAL_ADDRESS"] == ready["temporalAddress"]
        assert env["HTTP_EGRESS_ALLOW"] == f"10.0.0.0/8,{smtp}"
        assert env["PLUGINS_PATH"] == "/opt/plugins"
        assert env["LATCHFLOW_LOG_FORMAT"] == "console"
        assert not {"DATABASE_MIGRATION_URL", "TEMPORAL_API_KEY", "PGSSLMODE"} & set(env)
    assert api["LATCHFLOW_BOOTSTRAP_TOKEN"] == ready["adminToken"]
    assert not {"LATCHFLOW_BOOTSTRAP_TOKEN", "LATCHFLOW_CODEC_UI_KEY", "LATCHFLOW_API_PORT"} & set(worker)
    assert f"http://{worker['LATCHFLOW_WORKER_METRICS_ADDRESS']}/metrics" == ready["workerMetricsUrl"]


def test_everything_in_the_data_directory_is_private(running: DevProcess) -> None:
    stack = running

    loose = [
        path
        for path in [stack.data_dir, *stack.data_dir.rglob("*")]
        if "postgres" not in path.parts and path.name != "postgres" and path.stat().st_mode & 0o077
    ]

    assert loose == []
    assert stat.S_IMODE((stack.data_dir / "postgres").stat().st_mode) == 0o700


def test_a_second_start_goes_on_with_the_same_data(dev: Start) -> None:
    first = dev()
    ready = first.until_ready()
    assert first.stop() == 0
    assert not first.ready_file.exists()

    again = dev().until_ready()

    assert again["adminToken"] == ready["adminToken"]
    with psycopg.connect(again["databaseUrl"], connect_timeout=5) as connection:
        assert connection.execute("SELECT count(*) FROM audit_entries").fetchone() is not None


def test_a_fresh_start_begins_anew_and_leaves_files_of_others_alone(dev: Start) -> None:
    first = dev()
    token = first.until_ready()["adminToken"]
    (first.data_dir / "mine.txt").write_text("mine")
    made = {path.name for path in first.data_dir.iterdir()}
    assert first.stop() == 0

    again = dev("--fresh").until_ready()

    assert again["adminToken"] != token
    assert made - {"lock", "logs", "mails", "mine.txt"} <= set(_MADE)
    assert (first.data_dir / "mine.txt").read_text() == "mine"


def test_a_fresh_start_beside_a_running_stack_is_refused_and_removes_nothing(dev: Start, tmp_path: Path) -> None:
    first = dev()
    first.until_ready()
    before = {path.name for path in first.data_dir.iterdir()}

    second = dev("--fresh", folder=tmp_path / "second", data_dir=first.data_dir)

    assert second.process.wait(10) == 1
    assert f"process {first.process.pid} " in second.output
    assert {path.name for path in first.data_dir.iterdir()} == before


def test_other_verbs_and_people_find_what_they_need(running: DevProcess) -> None:
    ready = running.ready
    profile = json.loads((running.data_dir / "profile.json").read_text())
    answer = psycopg.connect(ready["databaseUrl"], connect_timeout=5)

    row = answer.execute("SHOW max_connections").fetchone()
    answer.close()

    assert profile == {
        "apiUrl": ready["apiUrl"],
        "token": ready["adminToken"],
        "smtpSinkUrl": ready["smtpSinkUrl"],
        "temporalUiUrl": ready["temporalUiUrl"],
    }
    tries = running.output.partition("What to try:")[2].split("\n\n")[1].splitlines()
    assert (
        tries[0].strip() == f"curl -sS -H 'Authorization: Bearer {ready['adminToken']}' {ready['apiUrl']}/admin/plugins"
    )
    assert ready["temporalUiUrl"] in tries[1]
    assert "A first pipeline by hand" in tries[2]
    assert row == ("54",)  # (API + 1 worker) * (pool of 10 + 2) + 30


def test_two_stacks_on_two_data_directories_run_side_by_side(dev: Start, tmp_path: Path) -> None:
    one, two = dev(folder=tmp_path / "one"), dev(folder=tmp_path / "two")

    addresses = {one.until_ready()["temporalAddress"], two.until_ready()["temporalAddress"]}

    assert len(addresses) == 2


def test_several_worker_processes_are_a_list(dev: Start) -> None:
    pids = dev("--processes", "2").until_ready()["pids"]["worker"]

    assert len(set(pids)) == 2


def test_a_second_start_on_a_data_directory_in_use_names_the_first(dev: Start, tmp_path: Path) -> None:
    first = dev()
    first.until_ready()

    second = dev(folder=tmp_path / "second", data_dir=first.data_dir)

    assert second.process.wait(10) == 1
    assert second.output.startswith("latchflow: ")
    assert f"process {first.process.pid} " in second.output
    assert second.output.count("\n") == 1


@pytest.mark.parametrize("option", ["--api-port", "--temporal-port", "--ui-port"])
def test_a_taken_port_is_one_line_that_names_it_and_the_option(dev: Start, option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        stack = dev(option, str(port))

        assert stack.process.wait(10) == 1
    assert str(port) in stack.output
    assert option in stack.output
    assert stack.output.count("\n") == 1


@pytest.mark.parametrize("kind", ["a file", "below a file", "no file system for files"])
def test_a_data_directory_that_cannot_be_used_is_one_line(dev: Start, tmp_path: Path, kind: str) -> None:
    file = tmp_path / "file"
    file.touch()
    places = {"a file": file, "below a file": file / "data", "no file system for files": Path("/proc/data")}

    stack = dev(data_dir=places[kind])

    assert stack.process.wait(10) == 1
    assert str(places[kind]) in stack.output
    assert stack.output.count("\n") == 1


def test_an_api_that_refuses_to_start_shows_its_reason_and_leaves_nothing_running(dev: Start, tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "api.ending").write_text("latchflow: PLUGINS_PATH names no folder.")

    stack = dev()

    assert stack.process.wait(40) == 1
    assert "latchflow: api: PLUGINS_PATH names no folder." in stack.output
    assert stack.pids == []


def test_a_stale_ready_file_is_gone_before_anything_is_started(dev: Start, tmp_path: Path) -> None:
    (tmp_path / "ready.json").write_text("{}")

    stack = dev()

    wait_until(lambda: not stack.ready_file.exists(), "removal of the stale file", 10)
    assert "apiUrl" in stack.until_ready()

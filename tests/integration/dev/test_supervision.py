import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import psycopg
import pytest

from latchflow.dev.postgres import Postgres
from latchflow.dev.stack_keys import StackKeys
from tests.integration.dev.dev_process import DevProcess, is_running, wait_until

Start = Callable[..., DevProcess]


def _none_runs(pids: list[int]) -> bool:
    return not any(is_running(pid) for pid in pids)


def test_a_killed_part_is_back_within_two_seconds_under_the_same_address(dev: Start) -> None:
    stack = dev()
    before = stack.until_ready()

    for part in ("temporal", "postgres", "api", "worker"):
        old = before["pids"][part]
        killed_at = time.monotonic()
        os.kill(old, signal.SIGKILL)
        new = stack.until_restarted(part, old)

        assert time.monotonic() - killed_at < 2
        assert is_running(new)
        assert f"{part} was ended by SIGKILL; starting it again." in stack.output
    assert {**before, "pids": None} == {**stack.ready, "pids": None}


def test_the_database_serves_again_after_its_server_was_killed(dev: Start) -> None:
    stack = dev()
    ready = stack.until_ready()
    held = psycopg.connect(ready["databaseUrl"], connect_timeout=5)

    os.kill(ready["pids"]["postgres"], signal.SIGKILL)
    stack.until_restarted("postgres", ready["pids"]["postgres"])

    def serves() -> bool:
        try:
            psycopg.connect(ready["databaseUrl"], connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True

    wait_until(serves, "a connection", 5)
    held.close()
    assert stack.output.count("postgres was ended") == 1


def test_five_deaths_within_a_minute_stop_the_stack_and_show_the_end_of_the_log(dev: Start) -> None:
    stack = dev()
    pid = stack.until_ready()["pids"]["worker"]
    pids = stack.pids

    (stack.notes / "worker.ending").write_text("RuntimeError: cannot go on")
    os.kill(pid, signal.SIGKILL)

    assert stack.process.wait(30) == 1
    assert "latchflow: worker ended 5 times within a minute; the last time it exited with status 1." in stack.output
    assert "  RuntimeError: cannot go on" in stack.output
    assert _none_runs(pids)
    assert not stack.ready_file.exists()


@pytest.mark.parametrize(
    ("status", "why"), [(75, "plugins left too much over in it"), (69, "another part does not answer yet")]
)
def test_a_worker_that_may_go_on_by_itself_is_started_again_however_often(dev: Start, status: int, why: str) -> None:
    stack = dev()
    pid = stack.until_ready()["pids"]["worker"]

    (stack.notes / "worker.child").unlink()
    (stack.notes / "worker.statuses").write_text(" ".join([str(status)] * 7))
    os.kill(pid, signal.SIGKILL)

    wait_until(lambda: not (stack.notes / "worker.statuses").exists(), "seven ends", 20)
    wait_until((stack.notes / "worker.child").exists, "a worker", 20)
    assert stack.output.count(f"worker exited with status {status}: {why}; starting it again.") == 7
    assert stack.stop() == 0


def test_a_stack_whose_terminal_went_away_runs_on_and_stops_in_order(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    stack = DevProcess(tmp_path, stdout=write_end)
    os.close(write_end)
    os.close(read_end)
    try:
        stack.until_ready()

        status = stack.stop()
    finally:
        stack.close()

    assert status == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_everything_with_status_0(dev: Start, number: signal.Signals) -> None:
    stack = dev()
    stack.until_ready()
    pids = [*stack.pids, int((stack.notes / "worker.child").read_text())]

    status = stack.stop(number)

    assert status == 0
    assert _none_runs(pids)
    assert stack.pids == []


def test_a_stop_signal_during_the_start_ends_everything_with_status_0(dev: Start) -> None:
    stack = dev()
    wait_until(lambda: len(stack.pids) >= 2, "the first programs")
    pids = stack.pids

    status = stack.stop()

    assert status == 0
    assert _none_runs(pids)
    assert dev().until_ready()


def test_a_second_stop_signal_kills_at_once(dev: Start) -> None:
    stack = dev()
    stack.until_ready()
    (stack.notes / "worker.stubborn").touch()
    pids = stack.pids
    started_at = time.monotonic()

    stack.process.send_signal(signal.SIGINT)
    time.sleep(0.3)  # Two signals in one instant are one.
    status = stack.stop(signal.SIGINT)

    assert status == 130
    assert time.monotonic() - started_at < 5
    assert _none_runs(pids)


def test_the_start_after_a_kill_ends_what_was_left_and_says_so(dev: Start) -> None:
    first = dev()
    first.until_ready()
    left = first.pids
    first.process.kill()
    first.process.wait(10)
    first.ready_file.unlink()
    assert len(left) == 4

    second = dev()
    second.until_ready()

    assert _none_runs(left)
    assert f"worker ({left[-1]})" in second.output
    assert second.output.count("Ended what an earlier stack left running") == 1


def test_a_fresh_start_after_a_kill_ends_what_was_left(dev: Start) -> None:
    first = dev()
    first.until_ready()
    left = first.pids
    first.process.kill()
    first.process.wait(10)
    first.ready_file.unlink()

    second = dev("--fresh")
    second.until_ready()

    assert _none_runs(left)
    assert second.output.count("Ended what an earlier stack left running") == 1


def test_orphans_of_the_database_are_found_behind_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real" / "postgres").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    program = tmp_path / "postgres"
    program.symlink_to("/bin/sleep")
    orphan = subprocess.Popen([program, "60"], cwd=tmp_path / "real" / "postgres")
    other = subprocess.Popen([program, "60"], cwd=tmp_path)
    try:
        wait_until(lambda: psutil.Process(orphan.pid).name() == "postgres", "the program")

        Postgres(tmp_path / "link", 1, StackKeys(), {}, max_connections=1).end_orphans()

        assert orphan.wait(5) == -signal.SIGKILL
        assert other.poll() is None
    finally:
        for process in (orphan, other):
            process.kill()
            process.wait()


def test_a_process_that_only_has_the_same_id_is_left_alone(dev: Start) -> None:
    first = dev()
    first.until_ready()
    first.stop()
    entry = {"name": "worker", "pid": os.getpid(), "started_at": 1.0, "stop_signal": int(signal.SIGTERM)}
    (first.data_dir / "state.json").write_text(json.dumps([entry]))

    second = dev()
    second.until_ready()

    assert "Ended what" not in second.output


def test_a_dedicated_plugin_gets_a_worker_of_its_own_that_is_kept_running_too(dev: Start) -> None:
    stack = dev(LATCHFLOW_DEDICATED_PLUGINS="acme-one, @acme/two")
    dedicated = stack.until_ready()["pids"]["dedicatedWorkers"]
    arguments = {plugin: (stack.notes / f"{pid}.arguments").read_text() for plugin, pid in dedicated.items()}

    assert arguments == {"acme-one": "--plugin acme-one", "@acme/two": "--plugin @acme/two"}
    assert not (stack.notes / f"{stack.ready['pids']['worker']}.arguments").exists()
    os.kill(dedicated["acme-one"], signal.SIGKILL)
    wait_until(
        lambda: stack.ready["pids"]["dedicatedWorkers"]["acme-one"] not in (dedicated["acme-one"], None),
        "it was started again",
    )
    assert stack.ready["pids"]["dedicatedWorkers"]["@acme/two"] == dedicated["@acme/two"]
    assert stack.stop() == 0
    assert not any(is_running(pid) for pid in dedicated.values())

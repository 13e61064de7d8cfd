import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from latchflow.cli.app import app


def _latchflow(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_new_plugin_passes_its_own_tests_and_the_suite(tmp_path: Path) -> None:
    written = _latchflow("plugins", "new", "@acme/greeter", "--into", tmp_path)
    folder = tmp_path / "greeter"

    tests = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    checked = _latchflow("plugins", "check", folder)

    assert written.exit_code == 0
    assert str(folder) in written.output
    assert tests.returncode == 0, tests.stdout + tests.stderr
    assert "3 passed" in tests.stdout
    assert checked.exit_code == 0, checked.output
    assert "FAULT" not in checked.output


def test_what_is_there_already_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "greeter").mkdir()
    result = _latchflow("plugins", "new", "greeter", "--into", tmp_path)

    assert result.exit_code != 0
    assert "there already" in str(result.exception)
    assert list((tmp_path / "greeter").iterdir()) == []


@pytest.mark.parametrize("name", ["Greeter", "../up", "a b", "", "@acme", "x" * 80])
def test_a_name_that_no_plugin_can_have_is_refused(name: str, tmp_path: Path) -> None:
    result = _latchflow("plugins", "new", name, "--into", tmp_path)

    assert "no name of a plugin" in str(result.exception)
    assert list(tmp_path.iterdir()) == []


def test_faults_make_the_exit_status_one_and_can_be_read_by_programs(tmp_path: Path) -> None:
    _latchflow("plugins", "new", "greeter", "--into", tmp_path)
    code = tmp_path / "greeter" / "greet.py"
    code.write_text(code.read_text().replace("return {", "return {object(): 1, "))

    lines = _latchflow("plugins", "check", tmp_path / "greeter")
    verdicts = json.loads(_latchflow("plugins", "check", tmp_path / "greeter", "--json").output)

    assert lines.exit_code == 1
    assert "FAULT action greet: returns what can be stored" in lines.output
    faults = [verdict for verdict in verdicts if verdict["fault"]]
    assert {verdict["subject"] for verdict in faults} == {"action greet"}


def test_a_folder_without_a_plugin_is_a_fault(tmp_path: Path) -> None:
    result = _latchflow("plugins", "check", tmp_path)

    assert result.exit_code == 1
    assert "plugin.toml" in result.output

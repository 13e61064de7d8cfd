"""The SDK from its author's side, as mypy sees it."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.house.sources import ROOT

_HERE = Path(__file__).parent / "typing"
_EXPECTED = re.compile(r"# E: ([\w, -]+)$")
_ERROR = re.compile(r"^[^:]+:(\d+): error: .*\[([\w-]+)\]$")


def _errors(name: str, folder: Path) -> tuple[dict[int, set[str]], str]:
    """The codes of the errors of a file, by line, as an author's mypy finds them: away from our configuration."""
    plugin = folder / name
    plugin.write_text((_HERE / name).read_text(encoding="utf-8"), encoding="utf-8")
    options = ["--strict", "--config-file=", "--no-incremental", "--show-error-codes", "--no-pretty"]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, name],
        cwd=folder,
        env={"PATH": "", "MYPYPATH": str(ROOT)},  # this checkout, wherever another one may be installed from
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    found: dict[int, set[str]] = {}
    for line in done.stdout.splitlines():
        if error := _ERROR.match(line):
            found.setdefault(int(error[1]), set()).add(error[2])
    return found, done.stdout


def test_the_library_says_that_it_is_typed() -> None:
    assert (ROOT / "latchflow" / "py.typed").exists(), "Without it mypy looks at nothing that a plugin imports."


def test_a_plugin_that_uses_everything_has_no_error(tmp_path: Path) -> None:
    found, output = _errors("good_plugin.py", tmp_path)

    assert found == {}, output
    assert "Success" in output


def test_each_mistake_of_an_author_is_found_on_its_line(tmp_path: Path) -> None:
    lines = (_HERE / "mistakes.py").read_text(encoding="utf-8").splitlines()
    expected = {
        number: set(marked[1].split(", "))
        for number, line in enumerate(lines, start=1)
        if (marked := _EXPECTED.search(line))
    }
    assert len(expected) > 30

    found, output = _errors("mistakes.py", tmp_path)

    assert found == expected, output


@pytest.mark.parametrize("text", ["x:1: error: no [arg-type]"])
def test_an_error_is_recognised(text: str) -> None:
    assert _ERROR.match(text)

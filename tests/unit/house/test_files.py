import re

import pytest

from tests.unit.house.sources import ROOT, files, read

_LONGEST = 400
_HERE = "tests/unit/house/test_files.py"
_FOLDER_OF_A_MACHINE = re.compile(r"(?<![\w.$}])/(?:home|Users|root|work|workspace)/[\w.-]+")
_PACKAGE_INDEX = re.compile(
    r"(?:PIP_(?:EXTRA_)?INDEX_URL|UV_INDEX_URL|GOPROXY)\b|(?:index-url|find-links|trusted-host)[= ]+\w|://[^\s)]*/simple\b"
)


def _lines(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in files()
        if path.relative_to(ROOT).as_posix() != _HERE
        for number, line in enumerate(read(path).splitlines(), start=1)
        if pattern.search(line)
    ]


def test_no_python_file_is_too_long() -> None:
    long = [
        f"{path.relative_to(ROOT)} has {length} lines"
        for path in files()
        if path.suffix == ".py" and (length := len(read(path).splitlines())) > _LONGEST
    ]

    assert not long, (
        f"A file of over {_LONGEST} lines does more than one thing, and nobody reads it whole. Find the seam and make "
        "two of it: " + "; ".join(long)
    )


def test_no_module_has_a_name_that_says_nothing() -> None:
    empty = {"base", "common", "helpers", "managers", "misc", "utils"}
    named = [path.relative_to(ROOT).as_posix() for path in files() if path.suffix == ".py" and path.stem in empty]

    assert not named, "Name a module after what it does; it will then stay small."


def test_no_file_names_a_folder_of_somebodys_machine() -> None:
    assert _lines(_FOLDER_OF_A_MACHINE) == [], "Write a path that is right on every machine."


def test_no_file_names_a_package_index() -> None:
    assert _lines(_PACKAGE_INDEX) == [], "Which index to use is the business of who installs."


@pytest.mark.parametrize("text", ["see /home/ada/latchflow", "cd /Users/ada/x", "--index-url https://x", "PIP_INDEX_URL=x"])
def test_what_must_not_be_there_is_found(text: str) -> None:
    assert _FOLDER_OF_A_MACHINE.search(text) or _PACKAGE_INDEX.search(text)

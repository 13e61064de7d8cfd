"""A rule that nothing can break protects nothing: for each one, an import that breaks it."""

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.unit.house.sources import ROOT, read

# Contract: a new module in an existing package, and what it imports.
_VIOLATIONS = {
    "rooms": ("api/routers/violation.py", "workflows.trigger_event"),
    "library": ("latchflow/store/violation.py", "api.errors"),
    "workflows": ("workflows/violation.py", "latchflow.store.events"),
    "plugins": ("plugins/core/violation.py", "latchflow.model"),
    "layers": ("latchflow/store/violation.py", "latchflow.temporal.client"),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages that the rules speak of, and the rules."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copy(ROOT / "pyproject.toml", folder)
    for package in _configuration()["root_packages"]:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _configuration() -> dict[str, list[str]]:
    configuration: dict[str, list[str]] = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]
    return configuration


def _lint(folder: Path, contract: str) -> "subprocess.CompletedProcess[str]":
    program = Path(sys.executable).with_name("lint-imports")
    command = [str(program), "--no-logo", "--no-cache", "--contract", contract]
    environment = {"PATH": "", "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_every_contract_has_its_violation() -> None:
    contracts = tomllib.loads(read(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]

    assert {contract["id"] for contract in contracts} == set(_VIOLATIONS)


@pytest.mark.parametrize("contract", sorted(_VIOLATIONS))
def test_an_import_that_a_contract_forbids_breaks_it(copy: Path, contract: str) -> None:
    name, imported = _VIOLATIONS[contract]
    violation = copy / name
    violation.write_text(f"import {imported}\n")

    try:
        result = _lint(copy, contract)
    finally:
        violation.unlink()

    assert result.returncode == 1, result.stdout + result.stderr
    assert "0 kept, 1 broken" in result.stdout
    assert imported in result.stdout


def test_a_new_room_must_be_given_its_layer(copy: Path) -> None:
    room = copy / "latchflow" / "attic.py"
    room.touch()

    try:
        result = _lint(copy, "layers")
    finally:
        room.unlink()

    assert result.returncode == 1
    assert "attic" in result.stdout

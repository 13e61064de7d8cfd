"""A PostgreSQL of the stack's own: password authentication, on the loopback address only."""

import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

import psutil

from latchflow.dev.binaries import give_to_postgres, postgres_binary, unprivileged
from latchflow.dev.ports import LOOPBACK
from latchflow.dev.private_file import write_private
from latchflow.dev.process_state import wait_until_gone
from latchflow.dev.program import Program
from latchflow.dev.stack_keys import StackKeys

SUPERUSER, OWNER_ROLE, APP_ROLE, DATABASE = "postgres", "latchflow_owner", "latchflow_app", "latchflow"

# A small footprint, and nothing given up of what keeps committed data (fsync and full_page_writes stay on).
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "shared_buffers": "32MB",
    "max_parallel_workers": "0",
    "max_logical_replication_workers": "0",
    "max_wal_size": "256MB",
    "io_method": "sync",
    "jit": "off",
    "logging_collector": "off",
}


class Postgres:
    """The server of one data directory.

    Args:
        data_dir: Where it is.
        port: Where it listens.
        keys: The passwords of its roles.
        env: Its environment.
        max_connections: How many clients it takes at once.
    """

    def __init__(
        self, data_dir: Path, port: int, keys: StackKeys, env: Mapping[str, str], *, max_connections: int
    ) -> None:
        self.port = port
        self._max_connections = max_connections
        self._cluster = data_dir / "postgres"
        self._draft = data_dir / "postgres.new"
        self._password_file = data_dir / "initdb.password"
        self._env = env
        self._passwords = {
            SUPERUSER: keys.postgres_password,
            OWNER_ROLE: keys.owner_password,
            APP_ROLE: keys.app_password,
        }

    def url(self, role: str, database: str = DATABASE) -> str:
        """The URL under which a role reaches a database."""
        return f"postgresql://{role}:{self._passwords[role]}@{LOOPBACK}:{self.port}/{database}"

    @property
    def is_created(self) -> bool:
        """Whether there is a cluster."""
        return self._cluster.exists()

    def creation(self) -> Program:
        """The program that makes a cluster, beside its place; ``take_place`` moves it there when it is whole."""
        shutil.rmtree(self._draft, ignore_errors=True)
        self._draft.mkdir(mode=0o700)
        give_to_postgres(self._draft)
        # A command line can be read by everybody on the machine, so the password comes in by a file.
        write_private(self._password_file, self._passwords[SUPERUSER])
        account = ["-U", SUPERUSER, "--auth=scram-sha-256", f"--pwfile={self._password_file}"]
        locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        initdb = [postgres_binary("initdb"), "-D", str(self._draft), "--no-instructions", *account, *locale]
        return Program(name="initdb", argv=[*unprivileged(), *initdb], env=self._env, cwd=self._draft.parent)

    def take_place(self) -> None:
        """Put the new cluster where the server looks for it."""
        self._password_file.unlink()
        self._draft.rename(self._cluster)

    def server(self) -> Program:
        """The server."""
        chosen = {**_SETTINGS, "max_connections": str(self._max_connections)}
        settings = [word for name, value in chosen.items() for word in ("-c", f"{name}={value}")]
        postgres = [postgres_binary("postgres"), "-D", str(self._cluster), "-p", str(self.port)]
        return Program(
            name="postgres",
            argv=[*unprivileged(), *postgres, *settings],
            env=self._env,
            cwd=self._cluster.parent,
            stop_signal=signal.SIGINT,  # "Fast shutdown"; SIGTERM would wait until every client has gone.
            stop_seconds=10.0,
            clear=self.end_orphans,
        )

    def end_orphans(self) -> None:
        """Kill processes of a server that died before them; a new server would refuse to start beside them."""
        orphans = [process for process in psutil.process_iter() if _runs_in(process, self._cluster)]
        for process in orphans:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        wait_until_gone(orphans, seconds=2.0)


def _runs_in(process: psutil.Process, folder: Path) -> bool:
    # Each process of a server works in its data folder and leads a session of its own: the process group misses it.
    # The system names that folder without symbolic links.
    try:
        return process.name() == "postgres" and Path(process.cwd()) == folder.resolve()
    except (psutil.Error, OSError):
        return False

"""The API as the program it is, several of it if need be."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import httpx2
import psycopg

from tests.support.api import BOOTSTRAP_TOKEN
from tests.support.postgres import TestDatabase

ROOT = Path(__file__).resolve().parents[2]
_READY = re.compile(r'"url": ?"(http://[^"]+)"')


class ApiProcess:
    """One `python -m api` without Temporal, and an admin's client of it."""

    def __init__(self, database: TestDatabase, home: Path, encryption_key: str, **environment: str) -> None:
        with psycopg.connect(database.owner_url, autocommit=True) as connection:
            # Reached once, so that its absence counts as an outage.
            connection.execute("UPDATE deployment SET temporal_reached = '127.0.0.1:1 default'")
        self._program = subprocess.Popen(
            [sys.executable, "-m", "api"],
            cwd=ROOT,
            env={
                "PATH": os.environ["PATH"],
                "DATABASE_URL": database.url,
                "ENCRYPTION_KEY": encryption_key,
                "LATCHFLOW_API_PORT": "0",
                "LATCHFLOW_BOOTSTRAP_TOKEN": BOOTSTRAP_TOKEN,
                "LATCHFLOW_HOME": str(home),
                "LATCHFLOW_PUBLIC_URL": "http://api.example",
                "TEMPORAL_ADDRESS": "127.0.0.1:1",
                "TEMPORAL_CONFIG_FILE": os.devnull,
                **environment,
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self._program.pid
        self.log: list[str] = []
        self.url = self._until_ready()
        threading.Thread(target=self._drain, daemon=True).start()
        self.client = httpx2.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {BOOTSTRAP_TOKEN}"}, trust_env=False, timeout=60
        )

    def kill(self) -> None:
        """Without a chance to tidy up."""
        self._program.send_signal(signal.SIGKILL)
        self._program.wait(10)

    def terminate(self) -> None:
        """As a supervisor does it."""
        self._program.send_signal(signal.SIGTERM)

    def close(self) -> None:
        self.client.close()
        self._program.kill()
        self._program.wait(10)

    def _until_ready(self) -> str:
        assert self._program.stderr is not None
        for line in self._program.stderr:
            self.log.append(line)
            if "api ready" in line and (found := _READY.search(line)):
                return found[1]
        raise AssertionError("the API did not start:\n" + "".join(self.log))

    def _drain(self) -> None:
        assert self._program.stderr is not None
        self.log.extend(self._program.stderr)
        self._program.stderr.close()

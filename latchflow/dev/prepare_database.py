"""Makes the roles and the database, and migrates: a program of its own, so that its libraries leave memory with it.

``python -m latchflow.dev.prepare_database`` starts while the cluster is still being made, and waits for the server.
"""

import os
import sys
import time

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from latchflow.errors import ConfigurationError
from latchflow.settings import Settings
from latchflow.store.migrate import upgrade

SUPERUSER_URL = "LATCHFLOW_DEV_SUPERUSER_URL"
_WAIT_SECONDS = 60.0


def prepare(superuser_url: str, settings: Settings) -> None:
    """Make what is missing; to do it again changes nothing.

    Raises:
        ConfigurationError: The server did not come up, or refused.
    """
    owner = conninfo_to_dict(settings.require_migration_url())
    app = conninfo_to_dict(settings.require_database_url())
    with _connect(superuser_url) as connection:
        for role in (owner, app):
            _ensure_role(connection, str(role["user"]), str(role["password"]))
        _ensure_database(connection, str(owner["dbname"]), str(owner["user"]), str(app["user"]))
    upgrade(settings)


def _connect(url: str) -> psycopg.Connection:
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            return psycopg.connect(url, autocommit=True, connect_timeout=5)
        except psycopg.OperationalError as error:
            if time.monotonic() > deadline:
                raise ConfigurationError(f"The embedded PostgreSQL does not answer: {error}") from error
            time.sleep(0.03)


def _ensure_role(connection: psycopg.Connection, role: str, password: str) -> None:
    is_there = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    statement = "ALTER ROLE {} LOGIN PASSWORD {}" if is_there else "CREATE ROLE {} LOGIN PASSWORD {}"
    connection.execute(sql.SQL(statement).format(sql.Identifier(role), sql.Literal(password)))


def _ensure_database(connection: psycopg.Connection, name: str, owner: str, app: str) -> None:
    database = sql.Identifier(name)
    if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone():
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, sql.Identifier(owner)))
    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(database))
    connection.execute(sql.SQL("GRANT CONNECT ON DATABASE {} TO {}").format(database, sql.Identifier(app)))


if __name__ == "__main__":
    try:
        prepare(os.environ[SUPERUSER_URL], Settings.load())
    except ConfigurationError as error:
        sys.stderr.write(f"latchflow: {' '.join(error.message.split())}\n")
        sys.exit(1)

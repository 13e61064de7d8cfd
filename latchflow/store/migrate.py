"""Bring the database to the schema of this version, and give the application's role what it may do."""

from collections.abc import Callable
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from psycopg import sql
from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool

from latchflow.errors import ConfigurationError
from latchflow.settings import Settings
from latchflow.store.database_urls import read_database_url

APPEND_ONLY = ("audit_entries",)
"""Tables the application may add to and read, and nothing else."""

_LOCK_ID = 0x1A7C4F10  # any constant: two migrations at once wait for each other


def upgrade(settings: Settings) -> None:
    """Run the migrations as the owner, then grant; safe to repeat and to start twice at once.

    Raises:
        ConfigurationError: A URL is missing or the database cannot be reached.
    """
    owner_url = settings.require_migration_url()
    read_database_url(owner_url, "DATABASE_MIGRATION_URL")
    application_role = _role_of(settings.require_database_url())

    def migrate(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        # Under the same lock: PostgreSQL refuses two grants on one table at once.
        _grant(owner_url, application_role)

    _as_owner(owner_url, migrate)


def _as_owner(url: str, work: Callable[[Connection], None]) -> None:
    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK_ID})")
            connection.commit()
            work(connection)
    except (OperationalError, psycopg.OperationalError) as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConfigurationError(
            f"The database of DATABASE_MIGRATION_URL cannot be used: {reason}. Start it, or correct the URL."
        ) from None
    finally:
        engine.dispose()


def _role_of(url: str) -> str:
    role = read_database_url(url, "DATABASE_URL").get("user")
    if not role:
        raise ConfigurationError("DATABASE_URL names no user. Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE.")
    return str(role)


def _grant(owner_url: str, application_role: str) -> None:
    """The application reads and writes rows, owns nothing, and can only add to the append-only tables."""
    role = sql.Identifier(application_role)
    with psycopg.connect(owner_url) as connection:
        owner = connection.execute("SELECT current_user").fetchone()
        if owner is not None and owner[0] == application_role:
            return  # One role for both: nothing to grant; the docs say what is lost.
        connection.execute(sql.SQL("GRANT USAGE ON SCHEMA public TO {}").format(role))
        grant_rows = "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {}"
        connection.execute(sql.SQL(grant_rows).format(role))
        connection.execute(sql.SQL("REVOKE INSERT, UPDATE, DELETE ON alembic_version FROM {}").format(role))
        connection.execute(sql.SQL("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO {}").format(role))
        connection.execute(sql.SQL("GRANT EXECUTE ON FUNCTION ensure_audit_partitions() TO {}").format(role))
        partitions = connection.execute(
            "SELECT relid::regclass::text FROM unnest(%s::text[]) AS parent, pg_partition_tree(parent::regclass)",
            (list(APPEND_ONLY),),
        ).fetchall()
        for (partition,) in partitions:
            revoke = "REVOKE UPDATE, DELETE, TRUNCATE ON {} FROM {}"
            connection.execute(sql.SQL(revoke).format(sql.Identifier(partition), role))

"""Migrations, and the rights of the application's role."""

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import psycopg
import pytest

from latchflow.settings import Settings
from latchflow.store import processes, upkeep
from latchflow.store.migrate import upgrade
from tests.support.execution import Deployment
from tests.support.postgres import Server, TestDatabase


def _settings(database: TestDatabase) -> Settings:
    return Settings.model_validate({"DATABASE_URL": database.url, "DATABASE_MIGRATION_URL": database.owner_url})


def _columns(database: TestDatabase) -> list[object]:
    statement = (
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'public' ORDER BY 1, 2"
    )
    with psycopg.connect(database.owner_url) as connection:
        return list(connection.execute(statement).fetchall())


def test_a_second_migration_changes_nothing(database: TestDatabase) -> None:
    before = _columns(database)
    upgrade(_settings(database))

    assert _columns(database) == before


def test_migrations_that_start_at_once_wait_for_each_other(postgres: Server) -> None:
    name = "migrated_at_once"
    postgres.execute(f"CREATE DATABASE {name} OWNER latchflow_owner")
    fresh = TestDatabase(
        name=name, url=postgres.url("latchflow_app", name), owner_url=postgres.url("latchflow_owner", name)
    )
    with ThreadPoolExecutor(6) as pool:
        for migration in [pool.submit(upgrade, _settings(fresh)) for _ in range(6)]:
            migration.result()

    assert _columns(fresh)
    postgres.drop_database(fresh)


@pytest.mark.parametrize("table", ["audit_entries", "audit_entries_0", "audit_entries_default"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {} SET actor = 'me'",
        "DELETE FROM {}",
        "TRUNCATE {}",
        "DROP TABLE {}",
        "ALTER TABLE {} ADD COLUMN x integer",
        "CREATE RULE quiet AS ON DELETE TO {} DO INSTEAD NOTHING",
        "SELECT FROM {} FOR UPDATE",
    ],
)
def test_the_application_can_neither_change_nor_remove_an_audit_entry(
    database: TestDatabase, statement: str, table: str
) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("INSERT INTO audit_entries (kind) VALUES ('admin')")

        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute(statement.format(table).encode())


def test_a_partition_that_the_application_adds_is_no_way_around(database: TestDatabase) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("SELECT ensure_audit_partitions()")
        for statement in ("UPDATE audit_entries_2 SET actor = 'me'", "DELETE FROM audit_entries_2"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement.encode())


def test_a_later_migration_leaves_the_audit_append_only(database: TestDatabase) -> None:
    upgrade(_settings(database))

    with (
        psycopg.connect(database.url, autocommit=True) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("DELETE FROM audit_entries_1")


async def test_the_upkeep_runs_as_the_application_and_may_be_repeated(deployment: Deployment) -> None:
    await deployment.rows("SELECT nextval('audit_entries_seq_seq')")
    with psycopg.connect(deployment.urls.owner_url, autocommit=True) as connection:
        connection.execute("SELECT setval('audit_entries_seq_seq', 2999999)")
    for _ in range(2):
        await upkeep.run(deployment.database)
    await deployment.rows("INSERT INTO audit_entries (kind) VALUES ('admin')")

    (row,) = await deployment.rows("SELECT tableoid::regclass::text AS partition, seq FROM audit_entries")
    assert row == {"partition": "audit_entries_3", "seq": 3000000}


async def test_a_process_is_alive_while_it_reports_and_gone_when_it_says_so(deployment: Deployment) -> None:
    process_id = uuid4()
    async with deployment.database.connection() as connection:
        for _ in range(2):
            await processes.report(connection, process_id=process_id, role="worker", host="h", pid=1, version="1")
        assert [process.id for process in await processes.alive(connection)] == [process_id]
        await deployment.rows("UPDATE processes SET seen_at = now() - interval '16 seconds'")
        assert await processes.alive(connection) == []
        await processes.report(connection, process_id=process_id, role="worker", host="h", pid=1, version="1")
        await processes.forget(connection, process_id)
        assert await processes.alive(connection) == []

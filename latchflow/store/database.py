"""The connection pool of a process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from latchflow.errors import ConfigurationError, UnavailableError, UnreachableError
from latchflow.settings import Settings
from latchflow.store.database_urls import read_database_url

Connection = AsyncConnection[DictRow]

_WAIT_SECONDS = 5.0


class Database:
    """A pool of connections to Postgres as the application's role.

    Every connection commits by itself; several statements that belong together use `transaction`.
    """

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.url = url
        self._pool: AsyncConnectionPool[Connection] = AsyncConnectionPool(
            url,
            connection_class=AsyncConnection[DictRow],
            kwargs={"autocommit": True, "row_factory": dict_row, "options": "-c TimeZone=UTC"},
            min_size=1,
            max_size=pool_size,
            timeout=_WAIT_SECONDS,
            check=AsyncConnectionPool.check_connection,
            open=False,
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: Settings) -> AsyncIterator["Database"]:
        """Connect, check that the schema is there, and close at the end.

        Raises:
            ConfigurationError: The database cannot be reached (`UnreachableError`) or was not migrated.
        """
        url = settings.require_database_url()
        await _check(url)
        database = cls(url, pool_size=settings.database_pool_size)
        await database._pool.open()
        try:
            yield database
        finally:
            await database._pool.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection that commits each statement.

        Raises:
            UnavailableError: No connection within five seconds, or the connection broke.
        """
        try:
            async with self._pool.connection() as connection:
                yield connection
        except (PoolTimeout, psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
            raise UnavailableError("The database is away. Try again shortly.") from error

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Connection]:
        """A connection inside one transaction: committed at the end, rolled back on an exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def answers(self) -> bool:
        """Whether the database answers now."""
        try:
            async with self.connection() as connection:
                await connection.execute("SELECT 1")
        except UnavailableError:
            return False
        return True


async def _check(url: str) -> None:
    read_database_url(url, "DATABASE_URL")
    try:
        async with await psycopg.AsyncConnection.connect(url, connect_timeout=5) as connection:
            row = await (await connection.execute("SELECT to_regclass('public.audit_entries')")).fetchone()
    except psycopg.OperationalError as error:
        reason = str(error).strip().splitlines()[0]
        raise UnreachableError(
            f"The database of DATABASE_URL cannot be used: {reason}. Start it, or correct the URL."
        ) from None
    if row is None or row[0] is None:
        raise ConfigurationError("The database has no Latchflow tables yet. Run `latchflow migrate` first.")

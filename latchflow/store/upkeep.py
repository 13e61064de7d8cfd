"""What the database needs from time to time."""

from latchflow.store import callbacks
from latchflow.store.database import Database


async def run(database: Database) -> None:
    """Keep partitions of the audit ahead of its newest entry, and forget processes and callbacks that are long gone."""
    async with database.connection() as connection:
        await connection.execute("SELECT ensure_audit_partitions()")
        await connection.execute("DELETE FROM processes WHERE seen_at < now() - interval '1 day'")
        await callbacks.forget(connection)

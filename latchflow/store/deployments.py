"""What the deployment remembers about itself."""

from latchflow.store.database import Connection


async def has_reached(connection: Connection, temporal: str) -> bool:
    """Whether some process has reached this Temporal address and namespace before."""
    row = await (
        await connection.execute("SELECT temporal_reached = %s AS has_reached FROM deployment", (temporal,))
    ).fetchone()
    return bool(row and row["has_reached"])


async def note_reached(connection: Connection, temporal: str) -> None:
    """This Temporal address and namespace was reached."""
    await connection.execute(
        "UPDATE deployment SET temporal_reached = %s WHERE temporal_reached IS DISTINCT FROM %s", (temporal, temporal)
    )

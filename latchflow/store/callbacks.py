"""Callbacks: addresses that whoever was asked for something outside calls when it is there.

Only the SHA-256 of a token is stored. A row goes three ways: nobody has used it; it was used and no attempt was made
with it (``seen_at`` is NULL); an attempt has seen it. While ``body_sealed`` of a seen one is there, it is in hand:
every attempt until the invocation waits again, or ends, gets the same. Whoever touches a row locks its invocation
first.
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from latchflow.crypto import Keyring
from latchflow.sdk import Callback
from latchflow.store import places
from latchflow.store.database import Connection
from latchflow.store.tokens import is_token

_KEPT_FOR = timedelta(days=30)

MOST_OPEN = 20
"""Addresses of one invocation that nobody has used."""


@dataclass(frozen=True, kw_only=True)
class Presented:
    """A callback whose token was presented.

    Attributes:
        refusal: Why nothing more is taken: it was ``used``, or its invocation has ``ended``; None when it is open.
    """

    token_hash: bytes
    invocation_id: UUID
    event_id: UUID
    trigger_id: UUID
    plugin: str
    capability_key: str
    refusal: Literal["used", "ended"] | None


@dataclass(frozen=True, kw_only=True)
class Received:
    """What somebody sent, handed to an attempt."""

    body_sealed: bytes
    received_at: datetime


async def mint(
    connection: Connection, invocation_id: UUID, token: str, *, attempt: int
) -> Literal["over", "too_many"] | None:
    """Let a new token call an invocation back; the connection is inside a transaction.

    Args:
        connection: Inside a transaction.
        invocation_id: What it calls back.
        token: Of `latchflow.store.tokens.new_token`; it is nowhere stored.
        attempt: The number of the attempt that asks.

    Returns:
        Why it may not: the attempt is over, or `MOST_OPEN` are open already; None when it may.
    """
    held = await (
        await connection.execute(
            """
            SELECT FROM invocations i JOIN attempts a ON a.invocation_id = i.id AND a.number = i.attempt_number
            WHERE i.id = %s AND i.ended_at IS NULL AND a.number = %s AND a.phase = 'STARTED'
            FOR UPDATE OF i
            """,
            (invocation_id, attempt),
        )
    ).fetchone()
    if held is None:
        return "over"
    made = await connection.execute(
        """
        INSERT INTO callbacks (token_hash, invocation_id)
        SELECT %(hash)s, %(id)s
        WHERE (SELECT count(*) FROM callbacks WHERE invocation_id = %(id)s AND used_at IS NULL) < %(most)s
        """,
        {"hash": _hash(token), "id": invocation_id, "most": MOST_OPEN},
    )
    return None if made.rowcount == 1 else "too_many"


async def look_up(connection: Connection, token: str) -> Presented | None:
    """Find the callback of a token that was presented; changes nothing."""
    if not is_token(token):
        return None
    token_hash = _hash(token)
    row = await (
        await connection.execute(
            """
            SELECT c.token_hash, i.id AS invocation_id, i.event_id, e.trigger_id, i.plugin, i.capability_key,
                   CASE WHEN c.used_at IS NOT NULL THEN 'used' WHEN i.ended_at IS NOT NULL THEN 'ended' END AS refusal
            FROM callbacks c JOIN invocations i ON i.id = c.invocation_id JOIN events e ON e.id = i.event_id
            WHERE c.token_hash = %s
            """,
            (token_hash,),
        )
    ).fetchone()
    if row is None or not hmac.compare_digest(row["token_hash"], token_hash):
        return None
    return Presented(**row)


async def use(connection: Connection, callback: Presented, body_sealed: bytes) -> Literal["used", "ended"] | None:
    """Take what was sent, once; the connection is inside a transaction.

    Of several who send at once, in any number of processes, one is taken.

    Returns:
        Why it was not taken; None when it was.
    """
    await connection.execute("SELECT FROM invocations WHERE id = %s FOR UPDATE", (callback.invocation_id,))
    taken = await connection.execute(
        """
        UPDATE callbacks SET used_at = clock_timestamp(), body_sealed = %s
        FROM invocations i
        WHERE token_hash = %s AND used_at IS NULL AND i.id = invocation_id AND i.ended_at IS NULL
        """,
        (body_sealed, callback.token_hash),
    )
    if taken.rowcount == 1:
        return None
    row = await (
        await connection.execute("SELECT used_at FROM callbacks WHERE token_hash = %s", (callback.token_hash,))
    ).fetchone()
    return "used" if row is not None and row["used_at"] is not None else "ended"


async def take(connection: Connection, invocation_id: UUID) -> Received | None:
    """What an attempt that resumes is handed: the callback in hand, else the one that was used first.

    Inside the transaction that claims the attempt, whose row of the invocation is locked.
    """
    row = await (
        await connection.execute(
            """
            UPDATE callbacks SET seen_at = coalesce(seen_at, clock_timestamp())
            WHERE token_hash = (SELECT token_hash FROM callbacks
                                WHERE invocation_id = %s AND used_at IS NOT NULL AND body_sealed IS NOT NULL
                                ORDER BY seen_at NULLS LAST, used_at, token_hash LIMIT 1)
            RETURNING body_sealed, used_at
            """,
            (invocation_id,),
        )
    ).fetchone()
    return Received(body_sealed=row["body_sealed"], received_at=row["used_at"]) if row else None


async def is_called_back(connection: Connection, invocation_id: UUID) -> bool:
    """Whether somebody has called back, and no attempt was made with it."""
    row = await (
        await connection.execute(
            """
            SELECT EXISTS (SELECT FROM callbacks
                           WHERE invocation_id = %s AND used_at IS NOT NULL AND seen_at IS NULL) AS is_called_back
            """,
            (invocation_id,),
        )
    ).fetchone()
    return bool(row and row["is_called_back"])


async def to_wake(connection: Connection, *, limit: int, leaving_out: Sequence[UUID] = ()) -> list[UUID]:
    """Invocations that wait although somebody has called back or decided.

    In no order, so that those whose workflow does not answer cannot keep the others from their turn.
    """
    rows = await (
        await connection.execute(
            """
            SELECT id FROM (
                SELECT i.id FROM callbacks c JOIN invocations i ON i.id = c.invocation_id
                WHERE c.used_at IS NOT NULL AND c.seen_at IS NULL AND i.status = 'WAITING' AND i.ended_at IS NULL
                UNION
                SELECT id FROM invocations
                WHERE decision IS NOT NULL AND ended_at IS NULL AND status = 'WAITING'
            ) AS waiting
            WHERE id <> ALL (%s::uuid[])
            ORDER BY random() LIMIT %s
            """,
            (list(leaving_out), limit),
        )
    ).fetchall()
    return [row["id"] for row in rows]


async def forget(connection: Connection) -> None:
    """Forget callbacks whose invocation ended a month ago: their tokens are unknown from then on."""
    await connection.execute(
        """
        DELETE FROM callbacks WHERE token_hash IN (
            SELECT c.token_hash FROM callbacks c JOIN invocations i ON i.id = c.invocation_id
            WHERE c.created_at < now() - %(kept)s::interval AND i.ended_at < now() - %(kept)s::interval LIMIT 1000
        )
        """,
        {"kept": _KEPT_FOR},
    )


def seal_body(keyring: Keyring, invocation_id: UUID, body: Any, *, content_type: str) -> bytes:
    """What somebody sent, as it is kept."""
    return keyring.seal_json({"body": body, "contentType": content_type}, places.callback_body(invocation_id))


def open_callback(keyring: Keyring, invocation_id: UUID, received: Received) -> Callback:
    """What somebody sent, as it is handed to `resume`.

    Raises:
        SealError: Its key is not in the ring.
    """
    kept = keyring.open_json(received.body_sealed, places.callback_body(invocation_id))
    return Callback(body=kept["body"], content_type=kept["contentType"], received_at=received.received_at)


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

"""Invocations that wait, as a worker leaves them."""

import hashlib
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from latchflow.crypto import Keyring
from latchflow.store.tokens import new_token
from tests.integration.api.test_events import add_event, add_invocation
from tests.support.api import Query, Wiring


async def add_waiting(wiring: Wiring, query: Query, keyring: Keyring, *, waiting_for: str = "callback") -> UUID:
    """An invocation of a new event that waits."""
    trigger, action = await wiring.trigger(), await wiring.action()
    event_id = add_event(query, keyring, trigger["id"])
    invocation_id = add_invocation(query, keyring, event_id, action["id"])
    query(
        "UPDATE invocations SET status = 'WAITING', output_sealed = NULL, waiting_for = %s WHERE id = %s",
        waiting_for,
        invocation_id,
    )
    return invocation_id


async def add_approval(wiring: Wiring, query: Query, keyring: Keyring, **wait: Any) -> UUID:
    """An approval of a new event that waits."""
    invocation_id = await add_waiting(wiring, query, keyring, waiting_for="decision")
    query("DELETE FROM attempts")
    query(
        """
        UPDATE invocations SET kind = 'approval', step_name = 'ask', wait = %s, action_id = NULL, action_version = NULL,
                               plugin = '', capability_key = '' WHERE id = %s
        """,
        Jsonb(wait),
        invocation_id,
    )
    return invocation_id


def add_token(query: Query, invocation_id: UUID) -> str:
    """A token that calls an invocation back."""
    token = new_token()
    query(
        "INSERT INTO callbacks (token_hash, invocation_id) VALUES (%s, %s)",
        hashlib.sha256(token.encode()).digest(),
        invocation_id,
    )
    return token


def document(event: dict[str, Any], invocation_id: UUID) -> dict[str, Any]:
    """An invocation in the document of its event."""
    (found,) = (
        invocation
        for run in event["runs"]
        for invocation in run["invocations"]
        if invocation["id"] == str(invocation_id)
    )
    return dict(found)

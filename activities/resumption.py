"""What an attempt goes on with when its invocation has waited."""

from collections import Counter
from datetime import UTC, datetime

from latchflow.crypto import Keyring
from latchflow.runtime.invoking.invoker import Resumption
from latchflow.store import callbacks, places
from latchflow.store.attempts import Claimed, Task


def resumption_of(claimed: Claimed, row: Task, keyring: Keyring, calls_made: Counter[str]) -> Resumption | None:
    """What an earlier attempt's `Pending` left, and what was sent since; None for the first turn.

    Args:
        claimed: The attempt.
        row: Its invocation.
        keyring: Opens both.
        calls_made: Those with an effect before the wait are added: they are counted on.
    """
    if claimed.pending_sealed is None:
        return None
    pending = keyring.open_json(claimed.pending_sealed, places.invocation_pending(row.invocation_id))
    calls_made.update(pending["calls"])
    received = claimed.received
    callback = callbacks.open_callback(keyring, row.invocation_id, received) if received else None
    return Resumption(state=pending["state"], callback=callback)


def is_given_up(claimed: Claimed) -> bool:
    """Whether the deadline had passed when the wait was over: now, or when what it waited for came."""
    over = claimed.received.received_at if claimed.received else datetime.now(UTC)
    return claimed.pending_deadline is not None and claimed.pending_deadline <= over

"""The chore of the gate: whatever may start and still waits is let in, whoever forgot to do it."""

from uuid import UUID

from latchflow.store import gates, pause
from latchflow.store.database import Database
from latchflow.temporal.closing import Start

_RELEASED_A_TURN = 50
"""Events let in by one turn, so per second: what piled up during a pause does not come all at once."""


class Gatekeeper:
    """Looks at the triggers with events that wait, some of them a turn.

    An event that ends lets in the next of its trigger itself. What is left for this chore: what waited for the end
    of a pause, of a rule that was changed, or of a trigger that was deleted.

    Args:
        database: Where events are.
        start: Starts what was let in.
    """

    def __init__(self, database: Database, start: Start) -> None:
        self._database = database
        self._start = start
        self._after: UUID | None = None  # where the next turn begins; a new leader begins at the first

    async def run_once(self) -> int:
        """Let in what may start, the same number of each trigger if there are that many, the oldest first.

        Returns:
            How many were let in.
        """
        async with self._database.connection() as connection:
            if (await pause.read(connection)).is_paused:
                return 0
            triggers = await gates.triggers_with_waiting(connection, after=self._after, limit=_RELEASED_A_TURN)
        self._after = triggers[-1] if len(triggers) == _RELEASED_A_TURN else None
        left = _RELEASED_A_TURN
        while triggers and left:
            share = max(1, left // len(triggers))
            more = []
            for trigger_id in triggers:
                wanted = min(share, left)
                released = await self._release(trigger_id, wanted) if wanted else 0
                left -= released
                if released == wanted:
                    more.append(trigger_id)
            triggers = more
        return _RELEASED_A_TURN - left

    async def _release(self, trigger_id: UUID, most: int) -> int:
        async with self._database.connection() as connection:
            if not await gates.room(connection, trigger_id, most=most):
                return 0  # the ordinary case: its turn has not come, and nobody is held up to see that
        async with self._database.transaction() as connection:
            await gates.hold(connection, trigger_id)
            released = await gates.release(connection, trigger_id, most=most)
        self._start(released)
        return len(released)

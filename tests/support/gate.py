"""Two processes' dispatchers in front of the gate, and a starter that does as it is told."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

from latchflow.store import pause
from latchflow.store.database import Database
from latchflow.temporal.closing import close_event
from latchflow.temporal.dispatch import Dispatcher, Firing
from latchflow.temporal.gatekeeper import Gatekeeper
from tests.support.execution import Deployment, Starts, Step, settings_of

STEPS = [Step(action="do", name="one"), Step(action="do", name="two", sort_order=1)]


class Gate:
    """Two dispatchers, each with a pool of its own, and what they started."""

    def __init__(self, deployment: Deployment, dispatchers: list[Dispatcher], starts: Starts) -> None:
        self.deployment = deployment
        self.dispatchers = dispatchers
        self.starts = starts
        self.keeper = Gatekeeper(deployment.database, dispatchers[0].start_soon)

    async def trigger(self, overlap: str = "allow_all", max_running_events: int | None = None) -> UUID:
        trigger_id = await self.deployment.define(STEPS)
        await self.rule(trigger_id, overlap, max_running_events)
        return trigger_id

    async def rule(self, trigger_id: UUID, overlap: str = "allow_all", max_running_events: int | None = None) -> None:
        await self.deployment.rows(
            "UPDATE trigger_definitions SET overlap = %s, max_running_events = %s WHERE id = %s",
            overlap,
            max_running_events,
            trigger_id,
        )

    async def fire(self, trigger_id: UUID, times: int = 1) -> list[UUID]:
        accepted = [await self._fire(trigger_id, number) for number in range(times)]
        await self.settle()
        return accepted

    async def fire_at_once(self, trigger_id: UUID, times: int) -> list[UUID]:
        accepted = await asyncio.gather(*(self._fire(trigger_id, number) for number in range(times)))
        await self.settle()
        return list(accepted)

    async def end(self, event_id: UUID) -> None:
        start = self.dispatchers[1].start_soon
        await close_event(self.deployment.database, event_id, outcomes={}, closed_by="workflow", start=start)
        await self.settle()

    async def pause(self, *, is_paused: bool) -> None:
        async with self.deployment.database.transaction() as connection:
            await pause.change(connection, is_paused=is_paused, reason=None, actor="ada")

    async def turn(self) -> int:
        released = await self.keeper.run_once()
        await self.settle()
        return released

    async def settle(self) -> None:
        for dispatcher in self.dispatchers:
            await dispatcher.close()

    async def states(self, event_ids: list[UUID]) -> list[str]:
        """``WAITING`` of those that wait for their turn, else the status."""
        rows = await self.deployment.rows(
            """
            SELECT CASE WHEN is_waiting AND closed_at IS NULL THEN 'WAITING' ELSE status END AS state
            FROM events WHERE id = ANY(%s) ORDER BY array_position(%s, id)
            """,
            event_ids,
            event_ids,
        )
        return [row["state"] for row in rows]

    async def _fire(self, trigger_id: UUID, number: int) -> UUID:
        dispatcher = self.dispatchers[number % 2]
        return (await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}))).event_id


@asynccontextmanager
async def open_gate(deployment: Deployment) -> AsyncIterator[Gate]:
    """Two dispatchers with a pool each."""
    async with AsyncExitStack() as stack:
        starts = Starts()
        dispatchers = []
        for _ in range(2):
            pool = await stack.enter_async_context(Database.open(settings_of(deployment.urls)))
            dispatchers.append(Dispatcher(pool, deployment.keyring, starts))
        gate = Gate(deployment, dispatchers, starts)
        yield gate
        await gate.settle()

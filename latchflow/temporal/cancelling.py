"""Cancelling an event or a run: the wish is a row first, then Temporal is told, again and again until it knows."""

import asyncio
from datetime import timedelta
from uuid import UUID

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from latchflow.errors import ConflictError, NotFoundError, UnavailableError
from latchflow.model import AuditKind, InvocationStatus
from latchflow.names import CANCEL_RUN_SIGNAL, event_workflow_id
from latchflow.store import audit, cancellations, gates, silence
from latchflow.store.cancellations import LockedEvent, Wish
from latchflow.store.database import Connection, Database
from latchflow.temporal.closing import close_event_within, close_run_within

_RPC_TIMEOUT = timedelta(seconds=3)
_BATCH = 20
_MOST_TOLD = 200
"""Tellings in progress at once; what is more is left to the chore."""

_REASON = "cancelled before it was started"

log = structlog.get_logger(__name__)


class Canceller:
    """Cancels events and runs, and tells Temporal of it."""

    def __init__(self, database: Database, client: Client) -> None:
        self._database = database
        self._client = client
        self._tellings: set[asyncio.Task[bool]] = set()

    async def cancel_event(self, event_id: UUID, *, actor: str) -> None:
        """Cancel an event; one that was not started closes at once. A repeat changes nothing.

        Raises:
            NotFoundError: There is no such event.
            ConflictError: It is closed.
            UnavailableError: The database is away; nothing was kept.
        """
        async with self._database.transaction() as connection:
            wish = await self.cancel_event_within(connection, event_id, actor=actor)
        self.tell(wish)

    async def cancel_event_within(
        self, connection: Connection, event_id: UUID, *, actor: str, bulk_id: UUID | None = None
    ) -> Wish:
        """As `cancel_event`, inside a transaction.

        Returns:
            What to `tell` when the transaction is committed.
        """
        await gates.hold_of_event(connection, event_id)  # before any row of an event, as everyone does
        event = await cancellations.lock_event(connection, event_id)
        if event is None:
            raise NotFoundError(f"There is no event {event_id}.")
        if event.is_closed:
            raise ConflictError(f"The event is closed already: {event.status}. Nothing of it can be cancelled.")
        wish = await cancellations.wish(connection, event_id, None, actor=actor)
        if wish.is_new:
            await _record(connection, event, wish, actor=actor, bulk_id=bulk_id)
        if not event.is_started:
            # A start that is on its way finds every invocation ended, so nothing runs; Temporal is told all the same.
            await close_event_within(
                connection,
                event_id,
                outcomes={},
                closed_by="operator",
                reason=_REASON,
                default=InvocationStatus.CANCELLED,
            )
        return wish

    async def cancel_run(self, event_id: UUID, run_id: UUID, *, actor: str) -> None:
        """Cancel one run of an event, the others go on. A repeat changes nothing.

        Raises:
            NotFoundError: The event has no such run.
            ConflictError: The event or the run is closed.
            UnavailableError: The database is away; nothing was kept.
        """
        async with self._database.transaction() as connection:
            event = await cancellations.lock_event(connection, event_id, run_id)
            if event is None or event.run_status is None:
                raise NotFoundError(f"The event {event_id} has no run {run_id}.")
            if event.is_closed or event.is_run_closed:
                raise ConflictError(f"The run is closed already: {event.run_status}. Nothing of it can be cancelled.")
            wish = await cancellations.wish(connection, event_id, run_id, actor=actor)
            if wish.is_new:
                await _record(connection, event, wish, actor=actor)
            if not event.is_started:
                await close_run_within(
                    connection, event_id, run_id, outcomes={}, reason=_REASON, default=InvocationStatus.CANCELLED
                )
        self.tell(wish)

    def tell(self, wish: Wish) -> None:
        """Tell Temporal of a wish that is committed, without being waited for."""
        if wish.is_new and len(self._tellings) < _MOST_TOLD:
            task = asyncio.create_task(self._tell(wish))
            self._tellings.add(task)
            task.add_done_callback(self._tellings.discard)

    async def tell_all(self) -> int:
        """Tell Temporal of every wish that it does not know of.

        Returns:
            How many it knows of now: fewer than there were when it is away.
        """
        total = after = 0
        while True:
            async with self._database.connection() as connection:
                wishes = await cancellations.untold(connection, after=after, limit=_BATCH)
            told = await asyncio.gather(*(self._tell(wish) for wish in wishes))
            total += sum(told)
            if len(wishes) < _BATCH or not any(told):
                return total
            after = wishes[-1].id

    async def close(self) -> None:
        """Let tellings in progress finish; what does not is the chore's."""
        if self._tellings:
            await asyncio.wait(self._tellings, timeout=3)

    async def _tell(self, wish: Wish) -> bool:
        handle = self._client.get_workflow_handle(event_workflow_id(wish.event_id))
        try:
            if wish.run_id is None:
                await handle.cancel(rpc_timeout=_RPC_TIMEOUT)
            else:
                await handle.signal(CANCEL_RUN_SIGNAL, wish.run_id, rpc_timeout=_RPC_TIMEOUT)
            is_gone = False
        except (RPCError, RuntimeError) as error:
            is_gone = _has_no_workflow(error)
            if not is_gone:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                log.warning("Temporal was not told of a cancellation yet", event_id=str(wish.event_id), reason=reason)
                return False
        try:
            async with self._database.connection() as connection:
                await cancellations.mark_told(connection, wish.id)
                if is_gone:
                    await silence.look_now(connection, wish.event_id)
        except UnavailableError:
            return False
        return True


def _has_no_workflow(error: Exception) -> bool:
    """Whether there is nothing to cancel any more; that a namespace is missing is another thing."""
    return (
        isinstance(error, RPCError)
        and error.status is RPCStatusCode.NOT_FOUND
        and "namespace" not in error.message.lower()
    )


async def _record(
    connection: Connection, event: LockedEvent, wish: Wish, *, actor: str, bulk_id: UUID | None = None
) -> None:
    detail = {"object": "event", "id": str(wish.event_id), "operation": "cancel"}
    if wish.run_id is not None:
        detail = {"object": "run", "id": str(wish.run_id), "operation": "cancel"}
    if bulk_id is not None:
        detail["bulkId"] = str(bulk_id)
    entry = audit.AuditEntry(
        kind=AuditKind.ADMIN,
        trigger_definition_id=event.trigger_id,
        trigger_event_id=wish.event_id,
        actor=actor,
        detail=detail,
    )
    await audit.record(connection, entry)

"""What the leading API process does again and again."""

from datetime import timedelta

from api.context import Context
from latchflow.services.storage import Storage
from latchflow.store import upkeep
from latchflow.temporal.chores import Chore
from latchflow.temporal.closer import Closer
from latchflow.temporal.gatekeeper import Gatekeeper
from latchflow.temporal.leader import stop_if_cancelled
from latchflow.temporal.unrouted import UnroutedFinder


def chores_of(context: Context) -> list[Chore]:
    """All of them; each sees from outside what no worker and no single request can."""
    database, temporal, dispatcher = context.database, context.temporal, context.dispatcher
    gatekeeper = Gatekeeper(database, dispatcher.start_soon)
    closer = Closer(database, temporal, start=dispatcher.start_soon)
    after = timedelta(seconds=context.settings.action_schedule_to_start_seconds)
    finder = UnroutedFinder(database, temporal, after=after)
    finding_seconds = min(30.0, max(1.0, after.total_seconds() / 4))
    storage = context.services.storage
    return [
        Chore(name="drainer", every_seconds=1, run_once=dispatcher.drain),
        Chore(name="gate", every_seconds=1, run_once=gatekeeper.run_once),
        Chore(name="displaced events", every_seconds=1, run_once=dispatcher.cancel_due),
        Chore(name="cancellations", every_seconds=1, run_once=context.canceller.tell_all),
        Chore(name="start of bulk operations", every_seconds=1, run_once=context.bulk.start_waiting),
        Chore(name="end of bulk operations", every_seconds=30, run_once=context.bulk.look_after),
        Chore(name="waker", every_seconds=2, run_once=context.waker.run_once),
        Chore(name="closer", every_seconds=30, run_once=closer.run_once),
        Chore(name="finder of steps that nobody takes", every_seconds=finding_seconds, run_once=finder.run_once),
        Chore(name="upkeep", every_seconds=600, run_once=lambda: upkeep.run(database)),
        Chore(name="leftovers of the storage", every_seconds=30, run_once=lambda: _tidy(storage)),
    ]


async def _tidy(storage: Storage) -> None:
    while await storage.remove_leftovers():
        stop_if_cancelled()

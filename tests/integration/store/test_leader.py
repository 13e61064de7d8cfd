"""One process of a deployment does the chores; another takes over; and whoever is told to stop does."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from temporalio.client import Client

from latchflow.services.storage import storage_of
from latchflow.settings import Settings
from latchflow.store import upkeep
from latchflow.store.database import Database
from latchflow.temporal.bulk import BulkOperations
from latchflow.temporal.cancelling import Canceller
from latchflow.temporal.chores import run_chores
from latchflow.temporal.closer import Closer
from latchflow.temporal.dispatch import Dispatcher
from latchflow.temporal.leader import Leader, stop_if_cancelled
from latchflow.temporal.waking import Waker
from tests.support.execution import Deployment, Starts

_LOCK_ID = 4711


class _Chores:
    """Chores that tell who leads."""

    def __init__(self) -> None:
        self.leads = {"a": asyncio.Event(), "b": asyncio.Event()}

    def of(self, name: str) -> Callable[[], Awaitable[None]]:
        async def run() -> None:
            self.leads[name].set()
            try:
                await asyncio.Event().wait()
            finally:
                self.leads[name].clear()

        return run

    @property
    def leading(self) -> list[str]:
        return [name for name, event in self.leads.items() if event.is_set()]


@asynccontextmanager
async def _two_leaders(url: str) -> AsyncIterator[tuple[_Chores, dict[str, asyncio.Task[None]]]]:
    chores = _Chores()
    tasks = {}
    for name in ("a", "b"):
        leader = Leader(url, lock_id=_LOCK_ID, retry_seconds=0.05)
        tasks[name] = asyncio.create_task(leader.run(chores.of(name)))
        if name == "a":
            await asyncio.wait_for(chores.leads["a"].wait(), 5)
    try:
        yield chores, tasks
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


async def _holder(deployment: Deployment) -> int | None:
    rows = await deployment.rows(
        "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND granted", _LOCK_ID
    )
    return int(rows[0]["pid"]) if rows else None


async def test_of_two_processes_one_leads_and_the_other_takes_over_when_it_goes(
    deployment: Deployment,
) -> None:
    async with _two_leaders(deployment.urls.url) as (chores, tasks):
        assert chores.leading == ["a"]
        tasks["a"].cancel()
        await asyncio.wait_for(chores.leads["b"].wait(), 5)
        assert chores.leading == ["b"]


async def test_a_leader_whose_connection_breaks_stops_its_chores_and_somebody_leads_again(
    deployment: Deployment,
) -> None:
    async with _two_leaders(deployment.urls.url) as (chores, _):
        first = await _holder(deployment)
        await deployment.rows("SELECT pg_terminate_backend(%s)", first)

        async with asyncio.timeout(5):
            while (await _holder(deployment)) in (first, None) or len(chores.leading) != 1:
                await asyncio.sleep(0.01)


async def test_a_chore_that_fails_is_started_again(deployment: Deployment) -> None:
    runs = 0
    again = asyncio.Event()

    async def chores() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("a bug")
        again.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(Leader(deployment.urls.url, lock_id=_LOCK_ID, retry_seconds=0.01).run(chores))
    await asyncio.wait_for(again.wait(), 5)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert runs == 2


async def test_a_leader_stops_when_told_to_whatever_it_is_doing(deployment: Deployment) -> None:
    # Before Python 3.12, `asyncio.wait_for` drops a cancellation that comes together with its result.
    drained = Dispatcher(deployment.database, deployment.keyring, Starts())

    async def chores() -> None:
        while True:
            await drained.drain()
            stop_if_cancelled()

    for microseconds in range(0, 40_000, 400):
        task = asyncio.create_task(Leader(deployment.urls.url, lock_id=_LOCK_ID, retry_seconds=0.01).run(chores))
        await asyncio.sleep(microseconds / 1e6)
        task.cancel()
        done, _ = await asyncio.wait([task], timeout=3)

        assert done, f"told to stop after {microseconds} µs"


async def test_chores_stop_when_told_to_although_one_drops_the_cancellation(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    entered = asyncio.Event()

    async def drop_the_first_cancellation(database: Database) -> None:
        entered.set()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)

    monkeypatch.setattr(upkeep, "run", drop_the_first_cancellation)
    dispatcher = Dispatcher(deployment.database, deployment.keyring, Starts())
    client = await Client.connect("127.0.0.1:1", lazy=True)
    storage = storage_of(Settings.model_validate({}), deployment.database)
    closer = Closer(deployment.database, client)
    canceller, bulk = Canceller(deployment.database, client), BulkOperations(deployment.database, client)
    waker = Waker(deployment.database, client)
    chores = asyncio.create_task(
        run_chores(deployment.database, dispatcher, closer, storage, waker, canceller=canceller, bulk=bulk)
    )
    await asyncio.wait_for(entered.wait(), 5)
    chores.cancel()
    done, _ = await asyncio.wait([chores], timeout=5)
    if not done:
        chores.cancel()

    assert done

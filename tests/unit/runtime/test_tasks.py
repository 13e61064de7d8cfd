"""Ending background tasks."""

import asyncio

import pytest

from latchflow.runtime.tasks import end_task, until_done


async def test_what_must_be_done_is_done_however_often_its_task_is_cancelled() -> None:
    release, done = asyncio.Event(), []

    async def work() -> None:
        await release.wait()
        done.append(True)

    task = asyncio.create_task(until_done(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0.01)
    release.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == [True]


async def test_a_fault_of_what_must_be_done_comes_through() -> None:
    async def work() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await until_done(work())


async def test_a_task_that_loses_a_cancellation_is_asked_again() -> None:
    asked = []

    async def deaf() -> None:
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            asked.append(True)
            await asyncio.sleep(100)

    task = asyncio.create_task(deaf())
    await asyncio.sleep(0)
    await end_task(task)

    assert asked == [True]
    assert task.cancelled()

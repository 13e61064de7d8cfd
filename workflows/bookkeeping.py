"""Calling the local activities that only write to Postgres."""

import asyncio
from typing import Any, TypeVar

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from latchflow.temporal import policies

T = TypeVar("T")


async def record(name: str, value: Any, result_type: type[T]) -> T:
    """Run a bookkeeping activity until Postgres answers.

    It is local: it only writes to Postgres, and a regular activity would wait for a slot that actions hold.
    """
    answer: T = await workflow.execute_local_activity(
        name,
        value,
        result_type=result_type,
        start_to_close_timeout=policies.BOOKKEEPING_TIMEOUT,
        retry_policy=policies.BOOKKEEPING_RETRY,
    )
    return answer


async def until_done(task: asyncio.Task[T]) -> T:
    """Wait for what must happen, whoever asks meanwhile to cancel."""
    while True:
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise

"""Waking invocations that wait: the row with what came is there before, the signal only hastens."""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Literal
from uuid import UUID

import structlog
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from latchflow.names import WAKE_SIGNAL, wait_workflow_id
from latchflow.store import callbacks
from latchflow.store.database import Database

_RPC_TIMEOUT = timedelta(seconds=3)
_BATCH = 200
_AT_ONCE = 20
_MOST_SOON = 500
_BEGINNING = (0.1, 0.3)
"""How long a workflow may take to begin to wait after the row says that it does; then it is up to the chore."""
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 600.0
_MOST_PAUSES = 10_000

_Answer = Literal["told", "absent", "away"]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Pause:
    until: float
    seconds: float


class Waker:
    """Signals the workflows of invocations that wait. What it cannot tell them now, `run_once` tells them later."""

    def __init__(self, database: Database, client: Client) -> None:
        self._database = database
        self._client = client
        self._signals: set[asyncio.Task[_Answer]] = set()
        self._pauses: dict[UUID, _Pause] = {}

    def wake_soon(self, invocation_id: UUID) -> None:
        """Wake it without waiting for Temporal, which may be away; the row is committed already."""
        if len(self._signals) < _MOST_SOON:
            task = asyncio.create_task(self._wake_patiently(invocation_id))
            self._signals.add(task)
            task.add_done_callback(self._signals.discard)

    async def run_once(self) -> int:
        """Wake those whose callback no attempt has seen, and those whose decision was not followed.

        One that was told is told again after a pause that doubles: every signal stays in a history, and a workflow
        whose workers are away must not collect them.

        Returns:
            How many were told.

        Raises:
            UnavailableError: The database is away.
        """
        now = monotonic()
        # One whose pause was over a while ago was not listed since: it was followed.
        self._pauses = {key: pause for key, pause in self._pauses.items() if pause.until > now - _LONGEST_PAUSE}
        paused = [key for key, pause in self._pauses.items() if pause.until > now]
        async with self._database.connection() as connection:
            due = await callbacks.to_wake(connection, limit=_BATCH, leaving_out=paused)
        told = 0
        while due:
            chunk, due = due[:_AT_ONCE], due[_AT_ONCE:]
            answers = await asyncio.gather(*(self._wake(key) for key in chunk))
            for key, answer in zip(chunk, answers, strict=True):
                if answer == "told":
                    told += 1
                    self._pause(key)
            if "away" in answers:
                break
        return told

    def _pause(self, invocation_id: UUID) -> None:
        last = self._pauses.get(invocation_id)
        seconds = min(2 * last.seconds, _LONGEST_PAUSE) if last else _FIRST_PAUSE
        if last is not None or len(self._pauses) < _MOST_PAUSES:
            self._pauses[invocation_id] = _Pause(until=monotonic() + seconds, seconds=seconds)

    async def close(self) -> None:
        """Let signals in progress be sent; what is not is sent by the leader."""
        if self._signals:
            await asyncio.wait(self._signals, timeout=3)

    async def _wake_patiently(self, invocation_id: UUID) -> _Answer:
        answer = await self._wake(invocation_id)
        for seconds in _BEGINNING:
            if answer == "absent":
                await asyncio.sleep(seconds)
                answer = await self._wake(invocation_id)
        return answer

    async def _wake(self, invocation_id: UUID) -> _Answer:
        handle = self._client.get_workflow_handle(wait_workflow_id(invocation_id))
        try:
            await handle.signal(WAKE_SIGNAL, rpc_timeout=_RPC_TIMEOUT)
        except (RPCError, RuntimeError) as error:
            if isinstance(error, RPCError) and error.status is RPCStatusCode.NOT_FOUND:
                return "absent"  # its workflow has not begun to wait, or waits no more
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("an invocation could not be woken yet", invocation_id=str(invocation_id), reason=reason)
            return "away"
        return "told"

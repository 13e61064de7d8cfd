"""A part of the stack: a program that is kept running."""

import asyncio
import time
from collections import deque
from collections.abc import Callable

from latchflow.dev.part_log import PartLog
from latchflow.dev.process_state import ProcessState
from latchflow.dev.program import Program, ProgramFailedError, RunningProgram, describe_ending
from latchflow.runtime.ending import PART_IS_AWAY
from latchflow.runtime.isolation import strain

_MAX_DEATHS = 5
_WITHIN_SECONDS = 60.0
_PAUSE_SECONDS = 0.1
_ERROR_PREFIX = "latchflow: "


class Part:
    """A program that is started again whenever it dies, on the same ports.

    Args:
        program: What is run.
        log: Where its output goes.
        state: Where its process is written down.
        say: Tells the operator something.
        on_started: Called after each start.
    """

    def __init__(
        self,
        program: Program,
        log: PartLog,
        state: ProcessState,
        *,
        say: Callable[[str], None],
        on_started: Callable[[], None],
    ) -> None:
        self.program = program
        self.has_been_ready = False
        self._log = log
        self._state = state
        self._say = say
        self._on_started = on_started
        self._running: RunningProgram | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False
        self._deaths: deque[float] = deque(maxlen=_MAX_DEATHS)

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return self._running.pid if self._running else None

    def start(self) -> asyncio.Task[None]:
        """Begin to keep it running.

        Returns:
            A task that ends with ``stop``, or raises ProgramFailedError when the program cannot be kept running.
        """
        self._task = asyncio.create_task(self._keep_running(), name=self.program.name)
        return self._task

    async def stop(self) -> None:
        """Ask it to end; kill it when its time is over."""
        self._is_stopping = True
        if self._task is None:
            return
        if self._running is not None:
            self._running.ask_to_end()
        await asyncio.wait({self._task}, timeout=self.program.stop_seconds)
        if not self._task.done():
            self._say(f"{self.program.name} did not stop within {self.program.stop_seconds:g} s and is killed.")
            self.kill()
            await asyncio.wait({self._task})

    def kill(self) -> None:
        """End it at once and for good."""
        self._is_stopping = True
        if self._running is not None:
            self._running.kill()

    async def _keep_running(self) -> None:
        while not self._is_stopping:
            self._running = await RunningProgram.start(self.program, self._log, self._state)
            self._on_started()
            if self._is_stopping:
                self._running.ask_to_end()
            status = await self._running.ended()
            self._running = None
            if not self._is_stopping:
                self._judge(status)
                await asyncio.sleep(_PAUSE_SECONDS)

    def _judge(self, status: int) -> None:
        name, tail, now = self.program.name, self._log.tail, time.monotonic()
        ending = describe_ending(status)
        reason = tail[-1] if tail else ""
        if not self.has_been_ready and reason.startswith(_ERROR_PREFIX):
            # What the operator must correct does not get better by another try.
            raise ProgramFailedError(f"{name}: {reason.removeprefix(_ERROR_PREFIX)}", name=name, tail=())
        if status == strain.EXIT_STATUS:
            # What is left over comes again, as often as the plugin leaves it: no reason to end what others run.
            self._say(f"{name} {ending}: plugins left too much over in it; starting it again.")
            return
        if status == PART_IS_AWAY:
            # Another part died first: this one comes back when that one does.
            self._say(f"{name} {ending}: another part does not answer yet; starting it again.")
            return
        self._deaths.append(now)
        if len(self._deaths) == _MAX_DEATHS and now - self._deaths[0] <= _WITHIN_SECONDS:
            message = f"{name} ended {_MAX_DEATHS} times within a minute; the last time it {ending}."
            raise ProgramFailedError(f"{message} Its log: {self._log.path}", name=name, tail=tail)
        detail = f" ({reason})" if reason and not self.has_been_ready else ""
        self._say(f"{name} {ending}{detail}; starting it again.")

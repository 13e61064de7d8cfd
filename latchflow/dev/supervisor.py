"""The parts of a stack together: started, watched, stopped in order."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

from latchflow.dev.part import Part
from latchflow.dev.part_log import PartLog
from latchflow.dev.process_state import ProcessState
from latchflow.dev.program import Program, ProgramFailedError, RunningProgram, describe_ending


class Supervisor:
    """Keeps parts running until it is told to stop, or one of them cannot be kept running.

    Args:
        log_dir: Where the logs go.
        state: Where processes are written down.
        say: Tells the operator something.
        echo: Shows a line that a part printed, given the part's name and the line.
        on_started: Called whenever a part got a new process.
    """

    def __init__(
        self,
        log_dir: Path,
        state: ProcessState,
        *,
        say: Callable[[str], None],
        echo: Callable[[str, str], None],
        on_started: Callable[[], None],
    ) -> None:
        self._log_dir = log_dir
        self._state = state
        self._say = say
        self._echo = echo
        self._on_started = on_started
        self._parts: dict[str, Part] = {}
        self._once: set[RunningProgram] = set()
        self._over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def pid(self, name: str) -> int | None:
        """The process that a part runs as now."""
        part = self._parts.get(name)
        return part.pid if part else None

    def start(self, program: Program) -> None:
        """Add a part and keep it running."""
        part = Part(program, self._log(program), self._state, say=self._say, on_started=self._on_started)
        self._parts[program.name] = part
        part.start().add_done_callback(self._take_failure)

    async def run_once(self, program: Program) -> None:
        """Run a program to its end.

        Raises:
            ProgramFailedError: It did not succeed.
        """
        log = self._log(program)
        running = await RunningProgram.start(program, log, self._state)
        self._once.add(running)
        try:
            status = await running.ended()
        except asyncio.CancelledError:
            running.kill()
            await running.ended()
            raise
        finally:
            self._once.discard(running)
        if status != 0:
            last = log.tail[-1].removeprefix("latchflow: ") if log.tail else describe_ending(status)
            raise ProgramFailedError(f"{program.name}: {last}", name=program.name, tail=log.tail)

    async def unless_over(self, work: Awaitable[None]) -> bool:
        """Do ``work``, but no longer than until the end of all is decided.

        Returns:
            Whether it was done; it was cancelled otherwise.
        """
        task = asyncio.ensure_future(work)
        await asyncio.wait({task, self._over}, return_when=asyncio.FIRST_COMPLETED)
        if self._over.done():
            task.cancel()
            await asyncio.wait({task})
            return False
        await task
        return True

    async def until_over(self) -> None:
        """Wait for the stop request.

        Raises:
            ProgramFailedError: A part cannot be kept running.
        """
        await self._over

    def settle(self) -> None:
        """All is ready: from now on every death of a part is an accident, worth another try."""
        for part in self._parts.values():
            part.has_been_ready = True

    def request_stop(self) -> None:
        """Let ``until_over`` return."""
        if not self._over.done():
            self._over.set_result(None)

    def kill(self) -> None:
        """End everything at once."""
        self.request_stop()
        for part in self._parts.values():
            part.kill()
        for running in self._once:
            running.kill()

    async def stop(self, order: Iterable[Iterable[str]]) -> None:
        """Stop the parts that were started, group after group; those of one group together."""
        for group in order:
            await asyncio.gather(*(self._parts[name].stop() for name in group if name in self._parts))
        if self._over.done():
            self._over.exception()  # Nobody may have asked for it, and it has been told already.

    def _log(self, program: Program) -> PartLog:
        name = program.name
        return PartLog(
            self._log_dir / f"{name}.log", (lambda line: self._echo(name, line)) if program.is_echoed else None
        )

    def _take_failure(self, task: asyncio.Task[None]) -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not self._over.done():
            self._over.set_exception(failure)

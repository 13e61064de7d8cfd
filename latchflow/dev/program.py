"""One program: what is run, and its process while it runs."""

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from latchflow.dev.part_log import LogPipe, PartLog
from latchflow.dev.process_state import ProcessState, end_group
from latchflow.errors import ConfigurationError, LatchflowError


def _nothing_to_clear() -> None:
    return


@dataclass(frozen=True, kw_only=True)
class Program:
    """What is run.

    Attributes:
        name: How it is called on the console; its log is ``logs/{name}.log``.
        argv: The command.
        env: Its whole environment.
        cwd: Where it runs.
        stop_signal: What asks it to end.
        stop_seconds: How long it may take before it is killed.
        is_echoed: Whether the console shows what it prints.
        clear: Ends what may outlive the process outside of its process group. Called when the process has ended.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    cwd: Path
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 5.0
    is_echoed: bool = False
    clear: Callable[[], None] = _nothing_to_clear


class ProgramFailedError(LatchflowError):
    """A program ended when it should not have.

    Attributes:
        name: The program's.
        tail: The last lines of its log.
    """

    code = "program_failed"

    def __init__(self, message: str, *, name: str, tail: Sequence[str]) -> None:
        super().__init__(message)
        self.name = name
        self.tail = tuple(tail)


class RunningProgram:
    """The process of a program, from its start to its end."""

    def __init__(
        self, program: Program, process: asyncio.subprocess.Process, pipe: LogPipe, state: ProcessState
    ) -> None:
        self.program = program
        self.pid = process.pid
        self._process = process
        self._pipe = pipe
        self._state = state

    @classmethod
    async def start(cls, program: Program, log: PartLog, state: ProcessState) -> "RunningProgram":
        """Start the process, in a session of its own: the terminal's Ctrl-C is for the stack, which stops in order."""
        pipe = LogPipe(log)
        try:
            process = await asyncio.create_subprocess_exec(
                *program.argv,
                env=dict(program.env),
                cwd=program.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=pipe.write_end,
                stderr=pipe.write_end,
                start_new_session=True,
                umask=0o077,
            )
        except OSError as error:
            pipe.abandon()
            raise ConfigurationError(f"{program.name} cannot be started: {error}.") from error
        state.add(program.name, process.pid, program.stop_signal)
        pipe.start()
        return cls(program, process, pipe, state)

    async def ended(self) -> int:
        """Wait for the end, clear up behind it, and return its status (negative: the signal)."""
        status = await self._process.wait()
        end_group(self.pid)
        self.program.clear()
        self._state.remove(self.pid)
        await self._pipe.finish()
        return status

    def ask_to_end(self) -> None:
        """Send the stop signal."""
        if self._process.returncode is None:
            self._process.send_signal(self.program.stop_signal)

    def kill(self) -> None:
        """End it and its process group at once."""
        if self._process.returncode is None:
            end_group(self.pid)


def describe_ending(status: int) -> str:
    """An exit status in words."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"exited with status {status}"

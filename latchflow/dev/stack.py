"""The embedded stack as a whole: what is started after what, and how it ends."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2

from latchflow.dev.application import Readiness
from latchflow.dev.console import StackConsole
from latchflow.dev.data_dir import claim_data_dir, empty_data_dir
from latchflow.dev.options import StackOptions
from latchflow.dev.process_state import ProcessState, end_leftovers
from latchflow.dev.program import ProgramFailedError
from latchflow.dev.programs import StackPrograms, choose_ports
from latchflow.dev.ready import Pids, ReadyFile, write_profile
from latchflow.dev.sink import run_sink
from latchflow.dev.stack_keys import load_keys
from latchflow.dev.supervisor import Supervisor

_KILLED_BY_OPERATOR = 130


def run_stack(options: StackOptions) -> int:
    """Run a stack until it is told to stop, or cannot go on.

    Returns:
        The exit status: 0 after a stop that was asked for, 130 when it was asked for twice, 1 when a part failed.

    Raises:
        ConfigurationError: The operator must change something.
    """
    started = time.monotonic()
    console = StackConsole()
    with claim_data_dir(options.data_dir, must_be_own=options.is_fresh):
        ready_file = ReadyFile(options.ready_file)  # First of all: a stale one must not be taken for ours.
        leftovers = end_leftovers(options.data_dir / "state.json")
        if leftovers:
            console.say(f"Ended what an earlier stack left running: {', '.join(leftovers)}.")
        if options.is_fresh:
            empty_data_dir(options.data_dir)
        try:
            return asyncio.run(_run(options, console, ready_file, started))
        except ProgramFailedError as failure:
            console.complain(failure.message, failure.tail)
            return 1


async def _run(options: StackOptions, console: StackConsole, ready_file: ReadyFile, started: float) -> int:
    keys = load_keys(options.data_dir)
    ports = choose_ports(options)
    async with (
        run_sink(options.data_dir / "mails", console.mail) as sink,
        httpx2.AsyncClient(trust_env=False, timeout=5.0) as client,
    ):
        programs = StackPrograms(options, keys, ports, sink, os.environ)
        stack = _Stack(programs, Readiness(client, options.data_dir / "logs"), ready_file, console)
        with _stop_signals(stack.supervisor) as requests:
            try:
                if await stack.supervisor.unless_over(stack.start()):
                    console.announce(programs.addresses, time.monotonic() - started)
                await stack.supervisor.until_over()
            finally:
                ready_file.remove()
                await stack.supervisor.stop(programs.stop_order)
        return _KILLED_BY_OPERATOR if len(requests) > 1 else 0


class _Stack:
    def __init__(
        self, programs: StackPrograms, readiness: Readiness, ready_file: ReadyFile, console: StackConsole
    ) -> None:
        self._programs = programs
        self._readiness = readiness
        self._ready_file = ready_file
        self._is_ready = False
        data_dir = programs.data_dir
        self.supervisor = Supervisor(
            data_dir / "logs",
            ProcessState(data_dir / "state.json"),
            say=console.say,
            echo=console.echo,
            on_started=self._on_started,
        )

    async def start(self) -> None:
        """Start everything; return when all is ready."""
        await asyncio.gather(self._start_temporal(), self._start_database())
        programs, supervisor = self._programs, self.supervisor
        supervisor.start(programs.api())
        for worker in programs.workers():
            supervisor.start(worker)
        addresses = programs.addresses
        await self._readiness.of_url("api", f"{addresses.api_url}/readyz")
        await self._readiness.of_workers(addresses.api_url, addresses.admin_token, self._all_worker_pids)
        supervisor.settle()
        self._is_ready = True
        write_profile(programs.data_dir, addresses)
        self._on_started()

    async def _start_temporal(self) -> None:
        self.supervisor.start(self._programs.temporal.server())
        await self._readiness.of_url("temporal", self._programs.temporal.health_url)

    async def _start_database(self) -> None:
        # Its libraries are loaded by the time the server answers.
        await asyncio.gather(self._start_postgres(), self.supervisor.run_once(self._programs.prepare_database()))

    async def _start_postgres(self) -> None:
        postgres = self._programs.postgres
        if not postgres.is_created:
            await self.supervisor.run_once(postgres.creation())
            postgres.take_place()
        self.supervisor.start(postgres.server())

    def _worker_pids(self) -> list[int | None]:
        return [self.supervisor.pid(name) for name in self._programs.worker_names]

    def _all_worker_pids(self) -> list[int | None]:
        return [*self._worker_pids(), *map(self.supervisor.pid, self._programs.dedicated_names.values())]

    def _on_started(self) -> None:
        if not self._is_ready:
            return
        workers = self._worker_pids()
        pids: Pids = {name: self.supervisor.pid(name) for name in ("temporal", "postgres", "api")}
        pids["worker"] = workers[0] if len(workers) == 1 else [pid for pid in workers if pid is not None]
        if dedicated := self._programs.dedicated_names:
            pids["dedicatedWorkers"] = {plugin: self.supervisor.pid(name) for plugin, name in dedicated.items()}
        self._ready_file.write(self._programs.addresses, pids)


@contextmanager
def _stop_signals(supervisor: Supervisor) -> Iterator[list[signal.Signals]]:
    loop = asyncio.get_running_loop()
    requests: list[signal.Signals] = []

    def on_signal(number: signal.Signals) -> None:
        requests.append(number)
        if len(requests) == 1:
            supervisor.request_stop()
        else:
            supervisor.kill()

    # A hang-up that was made ignored (nohup) stays ignored.
    numbers = [signal.SIGINT, signal.SIGTERM]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield requests
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)

"""Checking plugins' contracts in throwaway processes: imported there first, without keys and with a time limit."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

from latchflow.runtime.contract import Contract, ContractError
from latchflow.runtime.loader.copies import Copies, CopyError
from latchflow.runtime.loader.discovery import PluginSource
from latchflow.runtime.tasks import end_task, until_done

LIMIT_SECONDS = 10.0
_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TZ", "PYTHONPATH", "VIRTUAL_ENV")
_AT_ONCE = 4 * (os.cpu_count() or 1)
"""More than cores, so that a few that hang hold up nobody."""

_LONGEST_LINE = 64 * 1024 * 1024

Verdict = Contract | ContractError


async def check(
    source: PluginSource, *, limit_seconds: float = LIMIT_SECONDS, copies: Copies | None = None
) -> Contract:
    """Import one plugin in a throwaway process and return its contract.

    Raises:
        ContractError: It could not be imported within the limit, or breaks the contract.
    """
    async with Checks([source], limit_seconds=limit_seconds, copies=copies) as checks:
        return checks.contract_of(await checks.verdict(0))


class Checks:
    """Checks of several plugins side by side, while its block runs.

    One process imports the SDK once and forks a child for each plugin. What is imported is the copy of the plugin's
    code that has its hash.
    """

    def __init__(
        self, sources: Sequence[PluginSource], *, limit_seconds: float = LIMIT_SECONDS, copies: Copies | None = None
    ) -> None:
        self._sources = sources
        self._limit_seconds = limit_seconds
        self._copies = copies or Copies.at(None)
        self._verdicts: list[asyncio.Future[Verdict]] = []
        self._held = ExitStack()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Checks":
        loop = asyncio.get_running_loop()
        self._verdicts = [loop.create_future() for _ in self._sources]
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            await end_task(self._task)

    async def verdict(self, index: int) -> Verdict:
        """What came of one of them."""
        return await asyncio.shield(self._verdicts[index])

    def is_decided(self, index: int) -> bool:
        """Whether its verdict is there."""
        return self._verdicts[index].done()

    async def wait_for(self, indexes: Sequence[int], *, within_seconds: float | None = None) -> None:
        """Wait for the verdicts of these, if given, no longer than that."""
        waited = [self._verdicts[index] for index in indexes]
        if waited:
            await asyncio.wait(waited, timeout=within_seconds)

    @staticmethod
    def contract_of(verdict: Verdict) -> Contract:
        """The contract. Raises ContractError when the verdict is one."""
        if isinstance(verdict, ContractError):
            raise verdict
        return verdict

    async def _run(self) -> None:
        try:
            requests = await asyncio.to_thread(self._requests)
            if requests:
                await self._ask(requests)
        except (OSError, ValueError) as error:
            self._settle_rest(f"it could not be checked: {error}")
        finally:
            self._settle_rest("its check did not end; try again")
            self._held.close()

    def _requests(self) -> list[dict[str, object]]:
        """What the other process is asked; a source without a copy has its verdict already."""
        requests: list[dict[str, object]] = []
        for index, source in enumerate(self._sources):
            try:
                if source.error:
                    raise CopyError(source.error)
                copy = self._copies.take(source)
            except CopyError as error:
                self._verdicts[index].get_loop().call_soon_threadsafe(self._settle, index, ContractError(str(error)))
                continue
            self._held.callback(copy.release)
            asked = {"folder": str(source.folder), "name": source.name, "version": source.version}
            asked |= {"code_hash": source.code_hash, "copy": str(copy.path)}
            requests.append({**asked, "scopes": list(source.scopes), "index": index})
        return requests

    async def _ask(self, requests: Sequence[Mapping[str, object]]) -> None:
        reading, writing = os.pipe()
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "latchflow.runtime.loader.probe_process",
                str(writing),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(writing,),
                env=environment,
                start_new_session=True,
            )
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        pipe = ExitStack()
        try:
            asked = {"limit_seconds": self._limit_seconds, "at_once": _AT_ONCE, "plugins": list(requests)}
            transport, reader = await _reader_of(reading)
            pipe.callback(transport.close)
            _send(process, asked)
            while line := await reader.readline():
                answer = json.loads(line)
                self._settle(answer.pop("index"), _read_verdict(answer))
        finally:
            pipe.close()
            await until_done(_ended(process))

    def _settle(self, index: int, verdict: Verdict) -> None:
        if not self._verdicts[index].done():
            self._verdicts[index].set_result(verdict)

    def _settle_rest(self, reason: str) -> None:
        for index in range(len(self._verdicts)):
            self._settle(index, ContractError(reason))


async def _ended(process: asyncio.subprocess.Process) -> None:
    """End the process, which ends its children, whole groups of them, before itself."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    await process.wait()
    if process.stdin is not None:  # else its end would come when the loop may be closed already
        with suppress(OSError):
            await process.stdin.wait_closed()


async def _reader_of(descriptor: int) -> tuple[asyncio.ReadTransport, asyncio.StreamReader]:
    reader = asyncio.StreamReader(limit=_LONGEST_LINE)
    pipe = os.fdopen(descriptor, "rb")
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return transport, reader


def _send(process: asyncio.subprocess.Process, asked: Mapping[str, object]) -> None:
    if process.stdin is None:
        raise OSError("the process that checks has no input")
    process.stdin.write(json.dumps(asked).encode())
    process.stdin.write_eof()


def _read_verdict(answer: Mapping[str, object]) -> Verdict:
    if "error" in answer:
        return ContractError(str(answer["error"]))
    return Contract.model_validate(answer["contract"])

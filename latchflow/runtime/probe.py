"""Checking a plugin's contract in a throwaway process: it is imported there first, without keys and with a time limit.

Run as ``python -m latchflow.runtime.probe FOLDER``; the verdict is one line of JSON on the descriptor `check` opened,
never the exit status, which a plugin that calls ``sys.exit`` could choose.
"""

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

from latchflow.runtime.contract import Contract, ContractError, contract_of
from latchflow.runtime.discovery import PluginSource, read_source
from latchflow.runtime.loading import LoadError, load_package

_KEPT_VARIABLES = ("PATH", "HOME", "LANG", "TZ", "PYTHONPATH", "VIRTUAL_ENV")


async def check(source: PluginSource, *, limit_seconds: float = 10.0) -> Contract:
    """Import the plugin in a subprocess and return its contract.

    Raises:
        ContractError: It could not be imported within the limit, or breaks the contract.
    """
    reading, writing = os.pipe()
    environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    try:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "latchflow.runtime.probe",
            str(source.folder),
            str(writing),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=(writing,),
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(writing)
    try:
        async with asyncio.timeout(limit_seconds):
            verdict = await asyncio.to_thread(_read_all, reading)
            await process.wait()
    except TimeoutError:
        message = f"importing it took longer than {limit_seconds:g} s; do no work at import"
        raise ContractError(message) from None
    finally:
        # The whole group: a child that the import left behind would hold the pipe, and the thread that reads it.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    return _read_verdict(verdict)


def _read_all(descriptor: int) -> str:
    with os.fdopen(descriptor, encoding="utf-8") as pipe:
        return pipe.read()


def _read_verdict(verdict: str) -> Contract:
    try:
        answer = json.loads(verdict)
    except json.JSONDecodeError:
        raise ContractError("importing it ended the process; remove the exit or crash from its import") from None
    if "error" in answer:
        raise ContractError(str(answer["error"]))
    return Contract.model_validate(answer["contract"])


def _main(folder: Path, descriptor: int) -> None:
    source = read_source(folder)
    try:
        if source.error:
            raise ContractError(source.error)
        contract = contract_of(getattr(load_package(source), "plugin", None), scopes=source.scopes)
        answer: dict[str, object] = {"contract": contract.model_dump(mode="json")}
    except (ContractError, LoadError) as error:
        answer = {"error": str(error)}
    with os.fdopen(descriptor, "w", encoding="utf-8") as pipe:
        json.dump(answer, pipe)
    # Threads and exit handlers that the plugin left behind must not hold the verdict up.
    os._exit(0)


if __name__ == "__main__":
    _main(Path(sys.argv[1]), int(sys.argv[2]))

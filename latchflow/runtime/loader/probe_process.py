"""The process that checks plugins: it forks a child for each, and never imports any of their code itself.

Run as ``python -m latchflow.runtime.loader.probe_process DESCRIPTOR`` with what to check as JSON on its standard input.
For each plugin it writes one line of JSON to the descriptor as soon as its verdict is there. A verdict is what the
child wrote, never its exit status, which a plugin that calls ``sys.exit`` could choose.
"""

import json
import os
import resource
import selectors
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from latchflow.runtime.contract import Contract, ContractError, contract_of
from latchflow.runtime.lifecycle.registry import Registry
from latchflow.runtime.loader.discovery import PluginSource
from latchflow.runtime.loader.loading import LoadError, load_package

_LOOK_SECONDS = 0.1
_CRASHED = "importing it ended the process; remove the exit or crash from its import"
_LARGEST_VERDICT = 16 * 1024 * 1024

Request = Mapping[str, Any]


@dataclass(kw_only=True)
class _Child:
    """One check in progress."""

    request: Request
    pid: int
    pipe: int
    ends_at: float
    answer: bytearray = field(default_factory=bytearray)

    def read(self) -> bool:
        """Take what there is; True when nothing more will come."""
        with suppress(BlockingIOError):
            while part := os.read(self.pipe, 65536):
                self.answer += part
                if self.answer.endswith(b"\n") or len(self.answer) > _LARGEST_VERDICT:
                    return True
            return True
        return False

    def is_dead(self) -> bool:
        """Whether it ended; a child of its own may hold the pipe open."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def end(self) -> None:
        """End its whole group."""
        os.close(self.pipe)
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError):
                kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    def verdict(self) -> dict[str, Any]:
        """What it wrote, or that it wrote nothing."""
        try:
            return {**json.loads(self.answer), "index": self.request["index"]}
        except ValueError:
            return {"error": f"{_init(self.request)}: {_CRASHED}", "index": self.request["index"]}


def serve(requests: Sequence[Request], *, limit_seconds: float, at_once: int, descriptor: int) -> None:
    """Check every plugin, so many at once, and write the verdicts."""
    waiting, running = deque(requests), dict[int, _Child]()
    try:
        with selectors.DefaultSelector() as selector:
            while waiting or running:
                while waiting and len(running) < at_once:
                    child = _start(waiting.popleft(), limit_seconds)
                    running[child.pipe] = child
                    selector.register(child.pipe, selectors.EVENT_READ)
                ready = {key.fd for key, _ in selector.select(_LOOK_SECONDS)}
                for child in list(running.values()):
                    verdict = _look(child, is_ready=child.pipe in ready, limit_seconds=limit_seconds)
                    if verdict is not None:
                        selector.unregister(running.pop(child.pipe).pipe)
                        child.end()
                        _write(descriptor, verdict)
    finally:
        for child in running.values():
            child.end()


def _look(child: _Child, *, is_ready: bool, limit_seconds: float) -> dict[str, Any] | None:
    is_dead = child.is_dead()  # before reading: what it wrote at its end must not be missed
    if (is_ready or is_dead) and (child.read() or is_dead):
        return child.verdict()
    if time.monotonic() < child.ends_at:
        return None
    message = f"{_init(child.request)}: importing it took longer than {limit_seconds:g} s; do no work at import"
    return {"error": message, "index": child.request["index"]}


def _start(request: Request, limit_seconds: float) -> _Child:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _check_and_exit(request, writing)
    os.close(writing)
    os.set_blocking(reading, False)
    return _Child(request=request, pid=pid, pipe=reading, ends_at=time.monotonic() + limit_seconds)


def _check_and_exit(request: Request, pipe: int) -> NoReturn:
    try:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            answer: dict[str, object] = {"contract": _contract(request).model_dump(mode="json")}
        except (ContractError, LoadError) as error:
            answer = {"error": _placed(str(error), request)}
        _write(pipe, answer)
    finally:
        # Threads and exit handlers that the plugin left behind must not hold the verdict up.
        os._exit(0)


def _contract(request: Request) -> Contract:
    source = PluginSource(
        name=request["name"],
        version=request["version"],
        display_name=request["name"],
        scopes=tuple(request["scopes"]),
        folder=Path(request["folder"]),
        code_hash=request["code_hash"],
    )
    before = set(threading.enumerate())
    bound = getattr(load_package(source, Path(request["copy"])), "plugin", None)
    Registry.of(bound, source, frozenset())  # which makes the class actions, too
    if stray := [thread.name for thread in threading.enumerate() if thread not in before]:
        fix = "start threads when an action or trigger runs"
        raise ContractError(f"importing it started the thread {stray[0]!r}; {fix}")
    return contract_of(bound, scopes=source.scopes)


def _placed(message: str, request: Request) -> str:
    """With a file, where the message names none."""
    return message if f"{request['folder']}/" in message else f"{_init(request)}: {message}"


def _init(request: Request) -> str:
    return f"{request['folder']}/__init__.py"


def _write(descriptor: int, answer: Mapping[str, object]) -> None:
    content = memoryview(json.dumps(answer).encode() + b"\n")
    while content:
        content = content[os.write(descriptor, content) :]


def _stop(*_: object) -> NoReturn:
    raise SystemExit


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _stop)
    asked = json.load(sys.stdin)
    serve(
        asked["plugins"],
        limit_seconds=asked["limit_seconds"],
        at_once=asked["at_once"],
        descriptor=int(sys.argv[1]),
    )

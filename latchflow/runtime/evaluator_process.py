"""The process in which expressions are evaluated: started by `latchflow.runtime.evaluator`, it ends with its parent.

Frames are four bytes of length, then JSON. Asked ``[kind, subject, variables]``, it answers with any number of
``["begun", source]``, each before that expression is evaluated, and one ``["done", value]`` or
``["failed", message, line, column]``. Before the first request it sends ``["ready"]``.
"""

import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from typing import Any, BinaryIO

MAX_ANSWER_BYTES = 32 * 1024 * 1024
"""Of one answer: many times what an action may return."""

EXTRA_SECONDS = 1.0
"""How long after the limit the process ends itself, should nobody have killed it."""

_EXTRA_MEMORY_BYTES = 1024 * 1024 * 1024
_LENGTH = struct.Struct(">I")


def frame(message: Any) -> bytes:
    """A message as it goes through the pipe; ASCII, so that every string that JSON can hold survives."""
    body = json.dumps(message, separators=(",", ":")).encode("ascii")
    return _LENGTH.pack(len(body)) + body


def main() -> None:
    """Answer requests until stdin ends. The one argument is the limit of a request in seconds."""
    limit_seconds = float(sys.argv[1])
    # Who stops the worker signals its whole group or container; actions in progress still need their expressions.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    # The library imports its command line, which nobody needs here: two thirds of the time and of the memory.
    sys.modules.setdefault("cel.cli", ModuleType("cel.cli"))
    from latchflow import expressions  # noqa: PLC0415 - after the line above

    requests, answers = sys.stdin.buffer, _only_for_answers()
    _bound_memory()
    _send(answers, frame(["ready"]))
    while request := _read(requests):
        # The kernel keeps this limit also while the evaluator holds the interpreter, and when the parent has died.
        signal.setitimer(signal.ITIMER_REAL, limit_seconds + EXTRA_SECONDS)
        answer = _answer(expressions, request, lambda source: _send(answers, frame(["begun", source])))
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(answers, answer)


def _answer(expressions: Any, request: bytes, begin: Callable[[str], None]) -> bytes:
    name = "This expression"
    try:
        kind, subject, variables = json.loads(request)

        def begun(source: str) -> None:
            nonlocal name
            name = repr(source)
            begin(source)

        if kind == "template":
            value = expressions.evaluate_template(subject, variables, before_each=begun)
        else:
            begun(subject)
            value = expressions.evaluate(subject, variables)
        answer = frame(["done", value])
    except expressions.ExpressionError as error:
        return frame(["failed", error.message, error.line, error.column])
    except MemoryError:
        return frame(["failed", f"{name} cannot be evaluated: it, or its data, needs too much memory.", 1, 1])
    except BaseException as error:  # the library may raise anything; the next request deserves an answer
        return frame(["failed", f"{name} cannot be evaluated: {error}", 1, 1])
    if len(answer) > MAX_ANSWER_BYTES:
        message = f"The result has {len(answer)} bytes, at most {MAX_ANSWER_BYTES} are allowed. Select less."
        return frame(["failed", message, 1, 1])
    return answer


def _only_for_answers() -> BinaryIO:
    """Stdout, for nobody else; what libraries print could be data and goes nowhere."""
    answers = os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    return answers


def _bound_memory() -> None:
    """No more than a gigabyte over what the start took, where the platform can; no core files, they hold data."""
    with suppress(ImportError, OSError, ValueError):
        import resource  # noqa: PLC0415 - not everywhere

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - pathlib is not loaded here
            pages = int(file.read().split()[0])
        limit = pages * resource.getpagesize() + _EXTRA_MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _read(requests: BinaryIO) -> bytes | None:
    head = requests.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = requests.read(length)
    return body if len(body) == length else None


def _send(answers: BinaryIO, message: bytes) -> None:
    answers.write(message)
    answers.flush()


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()

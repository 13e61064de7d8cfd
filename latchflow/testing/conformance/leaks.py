"""Whether a secret of the config comes to light."""

import contextlib
import io
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from latchflow.masking import MASK, Masker
from latchflow.runtime.invoking.invoker import Failure

_SHORTEST = 8


@dataclass
class Printed:
    """What was written to standard output, standard error and the logs of libraries."""

    stream: io.StringIO = field(default_factory=io.StringIO)

    @property
    def text(self) -> str:
        """All of it."""
        return self.stream.getvalue()


@contextlib.contextmanager
def printed() -> Iterator[Printed]:
    """Catch what is written while the block runs, by whichever thread."""
    caught = Printed()
    handler = logging.StreamHandler(caught.stream)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        with contextlib.redirect_stdout(caught.stream), contextlib.redirect_stderr(caught.stream):
            yield caught
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


def short_secrets(secrets: Sequence[str]) -> list[str]:
    """Secrets of a case that are too short to be found again."""
    return [secret for secret in secrets if len(secret) < _SHORTEST]


def leaks(
    secrets: Sequence[str], *, result: object, logs: Sequence[Any], progress: Sequence[Any], text: str
) -> list[str]:
    """Where a secret was seen. Core masks logs and errors, so there the mask gives it away."""
    masker = Masker(secrets)
    seen = []
    if isinstance(result, Failure) and MASK in f"{result.error_type} {result.message}":
        seen.append("the text of its error")
    if any(MASK in _text(entry) or masker.text(_text(entry)) != _text(entry) for entry in logs):
        seen.append("an entry of call.logger")
    if any(masker.text(_text(entry)) != _text(entry) for entry in progress):
        seen.append("the progress it reports")
    if masker.text(text) != text:
        seen.append("what it prints or logs by itself")
    return seen


def _text(value: Any) -> str:
    return json.dumps(value, default=repr, ensure_ascii=False)

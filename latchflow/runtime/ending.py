"""Ending the process."""

import logging
import os
import sys
from typing import NoReturn

from latchflow.errors import LatchflowError, UnavailableError, UnreachableError

PART_IS_AWAY = 69
"""The exit status of a program that could not start because a part it needs does not answer (``EX_UNAVAILABLE``)."""


def status_of(error: LatchflowError) -> int:
    """The exit status of a program that cannot go on."""
    return PART_IS_AWAY if isinstance(error, UnreachableError | UnavailableError) else 1


def end_process(status: int) -> NoReturn:
    """End after an orderly stop, with what was written flushed, whatever threads go on.

    The end of an event loop, and Python's own, waits for the threads of executors. One that never comes back, of a
    plugin or of a disk that hangs, would keep a process alive that listens and polls no more.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

"""Ending the process."""

import logging
import os
import sys
from typing import NoReturn


def end_process(status: int) -> NoReturn:
    """End after an orderly stop, with what was written flushed, whatever threads go on.

    The end of an event loop, and Python's own, waits for the threads of executors. One that never comes back, of a
    plugin or of a disk that hangs, would keep a process alive that listens and polls no more.
    """
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

"""The data directory of a stack: made, private, and held by one stack at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latchflow.errors import ConfigurationError


@contextmanager
def claim_data_dir(path: Path) -> Iterator[None]:
    """Make ``path`` a directory of mode 0700 and hold it until the block ends, or this process does.

    Raises:
        ConfigurationError: It cannot be used, or a living stack holds it; the message names that one's process id.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        for name in ("logs", "mails"):
            (path / name).mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The data directory {path} cannot be used ({error.strerror}). Name another with --data-dir."
        ) from error
    try:
        _hold(lock, path)
        yield
    finally:
        os.close(lock)


def _hold(lock: int, path: Path) -> None:
    # The kernel drops this lock with the process, however it ends; a file with a process id in it would outlive it.
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
        raise ConfigurationError(
            f"The stack of process {holder} is using {path}. Stop it first, or name another directory with --data-dir."
        ) from None
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

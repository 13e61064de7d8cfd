"""The data directory of a stack: made, private, and held by one stack at a time."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latchflow.errors import ConfigurationError

_LOCK = "lock"
_FOLDERS = ("logs", "mails")
# What a stack makes in its data directory beside these; nothing else in there is ever removed.
_MADE = (
    *("secrets.json", "profile.json", "state.json", "initdb.password", "postgres", "postgres.new", "storage"),
    *("temporal.db", "temporal.db-shm", "temporal.db-wal", "temporal.db-journal"),
)


@contextmanager
def claim_data_dir(path: Path, *, must_be_own: bool = False) -> Iterator[None]:
    """Make ``path`` a directory of mode 0700 and hold it until the block ends, or this process does.

    Args:
        path: Where it is.
        must_be_own: Refuse a folder that was there before and that no stack has used.

    Raises:
        ConfigurationError: It cannot be used, or a living stack holds it; the message names that one's process id.
    """
    try:
        if must_be_own and not _is_own(path):
            raise ConfigurationError(
                f"{path} holds files and is no data directory of a stack, so --fresh will not empty it. "
                "Name another with --data-dir."
            )
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.chmod(0o700)
        for name in _FOLDERS:
            (path / name).mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"The data directory {path} cannot be used ({error.strerror}). Name another with --data-dir."
        ) from error
    try:
        _hold(lock, path)
        yield
    finally:
        os.close(lock)


def empty_data_dir(path: Path) -> None:
    """Remove what stacks made in a claimed data directory; files of others in it stay.

    Raises:
        ConfigurationError: Something cannot be removed.
    """
    try:
        for name in _MADE:
            _remove(path / name)
        for folder in _FOLDERS:
            for entry in (path / folder).iterdir():
                _remove(entry)
    except OSError as error:
        raise ConfigurationError(f"{error.filename} cannot be removed ({error.strerror}).") from error


def _is_own(path: Path) -> bool:
    """Whether there is nothing yet, or what every stack makes first of all."""
    if not path.is_dir() or not any(path.iterdir()):
        return True
    return (path / _LOCK).is_file() and all((path / name).is_dir() for name in _FOLDERS)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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

"""Copies of plugins' code, named by its hash: what was checked is what runs, whatever happens to the folder."""

import fcntl
import os
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from latchflow.names import normal_form
from latchflow.runtime.loader.discovery import PluginSource
from latchflow.runtime.loader.plugin_folder import FolderError, code_hash, plugin_files

_UNUSED_SECONDS = 3600.0
_TRIES = 20


class CopyError(Exception):
    """A plugin's code cannot be copied; the message says what to mend."""


@dataclass(kw_only=True, eq=False)
class Copy:
    """A copy in use. It stays until it is released, or the process ends, however that comes."""

    path: Path
    _lock: int

    def release(self) -> None:
        """It may be removed. Safe to repeat: the number of its lock may be another file's by then."""
        lock, self._lock = self._lock, -1
        if lock >= 0:
            os.close(lock)


class Copies:
    """The copies of one user, which only that user may read.

    Args:
        folder: Where they are; made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @classmethod
    def at(cls, folder: Path | None) -> "Copies":
        """The copies in a folder; without one, in the user's own below the system's folder for temporary files."""
        return cls(folder or Path(tempfile.gettempdir()) / f"latchflow-plugins-{os.getuid()}")

    def take(self, source: PluginSource) -> Copy:
        """The copy of a plugin's code with exactly its hash, made if it is not there yet. Blocks.

        Raises:
            CopyError: The folder has other content by now, or no copy can be made.
        """
        name = normal_form(source.name).lower()[:80]
        target = self._folder / f"{name}-{source.code_hash[:16]}"
        try:
            self._prepare()
            for _ in range(_TRIES):
                if not target.is_dir():
                    self._make(source, target)
                copy = _use(target)
                if copy is None:
                    continue
                if code_hash(copy.path) == source.code_hash:
                    os.utime(copy.path)
                    return copy
                copy.release()
                self._discard(target)
        except (OSError, FolderError) as error:
            raise CopyError(f"{source.folder}: its code cannot be copied to {self._folder}: {error}") from error
        raise CopyError(f"{source.folder}: its copy at {target} keeps changing; who else writes there?")

    def remove_unused(self, *, older_than_seconds: float = _UNUSED_SECONDS) -> None:
        """Remove what no process has used for that long."""
        with suppress(OSError):
            for path in self._folder.iterdir():
                with suppress(OSError):
                    if path.stat().st_mtime < time.time() - older_than_seconds:
                        self._remove_if_unused(path)

    def _prepare(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self._folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
            raise CopyError(
                f"{self._folder} is not this user's own folder; remove it or set LATCHFLOW_PLUGIN_CACHE_DIR"
            )
        if stat.S_IMODE(status.st_mode) & 0o077:
            self._folder.chmod(0o700)

    def _make(self, source: PluginSource, target: Path) -> None:
        made = Path(tempfile.mkdtemp(prefix=".new-", dir=self._folder))
        try:
            for file in plugin_files(source.folder):
                place = made / file.relative_to(source.folder)
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                shutil.copyfile(file, place, follow_symlinks=False)
                place.chmod(0o600)
            if code_hash(made) != source.code_hash:
                raise CopyError(f"{source.folder}: its files have changed since they were checked")
            with suppress(OSError):  # another process was quicker
                made.replace(target)
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def _discard(self, target: Path) -> None:
        """Put a copy aside that somebody changed; whoever uses it keeps what is loaded."""
        with suppress(OSError):
            target.replace(tempfile.mkdtemp(prefix=".old-", dir=self._folder))

    def _remove_if_unused(self, path: Path) -> None:
        lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            aside = Path(tempfile.mkdtemp(prefix=".old-", dir=self._folder))
            path.replace(aside)  # in one step: nobody may find half of it
            shutil.rmtree(aside, ignore_errors=True)
        finally:
            os.close(lock)


def _use(target: Path) -> Copy | None:
    """Hold a copy against removal; None when it went away meanwhile."""
    try:
        lock = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        held, found = os.fstat(lock), target.lstat()
        if (held.st_dev, held.st_ino) == (found.st_dev, found.st_ino):
            return Copy(path=target, _lock=lock)
    except FileNotFoundError:
        pass
    os.close(lock)
    return None

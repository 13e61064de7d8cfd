"""Storage in a folder of this machine, for deployments without a storage provider."""

import asyncio
import contextlib
import errno
import os
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO, ParamSpec, TypeVar

from latchflow.sdk import ServiceError, StorageUpload

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*/[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_WRITE_BYTES = 1024 * 1024
_READ_BYTES = 256 * 1024
_UNFINISHED = ".part"
_TRIES = 5

P = ParamSpec("P")
T = TypeVar("T")


class LocalFiles:
    """Implements `latchflow.sdk.StorageProvider`.

    Several processes may use one folder at once. A file has its name only when it is complete and on the disk.

    Args:
        folder: Made, for this user alone, when first needed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, upload: StorageUpload) -> None:
        """Write the content into a file beside, then give it its name."""
        unfinished = _Unfinished(self._folder, self._path(upload.key))
        try:
            await _io(unfinished.open)
            pending = bytearray()
            async for chunk in upload.chunks:
                pending += chunk
                if len(pending) >= _WRITE_BYTES:
                    await _io(unfinished.write, pending)
                    pending = bytearray()
            await _io(unfinished.complete, pending)
        except BaseException:
            await _io(unfinished.discard)
            raise

    async def get(self, key: str) -> AsyncIterator[bytes]:
        """Read the file; one that is removed meanwhile is read to its end all the same."""
        path = self._path(key)
        try:
            file = await _io(path.open, "rb", 0)
        except ServiceError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                raise ServiceError("not_found", "The file is not there.") from error
            raise
        try:
            while chunk := await _io(file.read, _READ_BYTES):
                yield chunk
        finally:
            await _io(file.close)

    async def delete(self, key: str) -> None:
        """Remove the file, and what a killed upload left of it."""
        path = self._path(key)
        await _io(_remove, path, self._folder)

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key) or key.endswith(_UNFINISHED):
            raise ServiceError("fatal", "This key cannot be the name of a file.")
        return self._folder / key


async def _io(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a call of the operating system in a thread.

    It is waited for even when the caller is cancelled: whoever cleans up then must not race it.
    """
    call = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    try:
        return await asyncio.shield(call)
    except asyncio.CancelledError:
        await asyncio.wait([call])
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        message = f"The folder of LATCHFLOW_STORAGE_DIR cannot be used: {reason}. An operator must mend that."
        raise ServiceError("retryable", message) from error


class _Unfinished:
    """A file that is being written; every method blocks."""

    def __init__(self, root: Path, path: Path) -> None:
        self._root = root
        self._path = path
        self._unfinished = _unfinished_name(path)
        self._file: BinaryIO | None = None

    def open(self) -> None:
        for _ in range(_TRIES):
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._path.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                descriptor = os.open(self._unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            except FileNotFoundError:
                continue  # Whoever removed the folder's last file has just removed the folder.
            self._file = os.fdopen(descriptor, "wb")
            return
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def write(self, content: bytearray) -> None:
        assert self._file is not None  # noqa: S101 - it is open
        self._file.write(content)

    def complete(self, rest: bytearray) -> None:
        assert self._file is not None  # noqa: S101 - it is open
        with self._file:
            self._file.write(rest)
            self._file.flush()
            os.fsync(self._file.fileno())
        self._unfinished.rename(self._path)
        # A name is on the disk only when its folder is.
        for folder in (self._path.parent, self._root):
            _sync(folder)

    def discard(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # what it could not write is not wanted any more
                self._file.close()
        self._unfinished.unlink(missing_ok=True)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path, root: Path) -> None:
    for name in (path, _unfinished_name(path)):
        name.unlink(missing_ok=True)
    if path.parent != root:
        with contextlib.suppress(OSError):  # not empty
            path.parent.rmdir()


def _unfinished_name(path: Path) -> Path:
    return path.with_name(path.name + _UNFINISHED)

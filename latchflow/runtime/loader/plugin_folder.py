"""What may lie in a plugin's folder, and the hash over it."""

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

MAX_FILES = 5000
MAX_BYTES = 256 * 1024 * 1024


class FolderError(Exception):
    """Something in a plugin's folder cannot be trusted or used.

    Attributes:
        file: What it is about.
    """

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"{file}: {reason}")
        self.file = file


def is_ignored(name: str) -> bool:
    """Whether a file or folder is no part of the plugin: hidden ones, and caches of the interpreter."""
    return name.startswith(".") or name == "__pycache__"


def plugin_files(folder: Path) -> list[Path]:
    """The files a plugin consists of, in the order of their names.

    Raises:
        FolderError: A symbolic link, a special file, something everyone may write, or too much of all.
        OSError: It cannot be read.
    """
    _check(folder, folder.lstat())
    files = sorted(_files(folder), key=lambda file: file.relative_to(folder).as_posix())
    if len(files) > MAX_FILES:
        raise FolderError(folder, f"it holds over {MAX_FILES} files; keep data elsewhere")
    if sum(file.lstat().st_size for file in files) > MAX_BYTES:
        raise FolderError(folder, f"its files have over {MAX_BYTES} bytes; keep data elsewhere")
    return files


def code_hash(folder: Path) -> str:
    """SHA-256 over the names and contents of the plugin's files, in hex. Raises as `plugin_files`."""
    digest = hashlib.sha256()
    for file in plugin_files(folder):
        name, content = os.fsencode(file.relative_to(folder).as_posix()), file.read_bytes()
        digest.update(b"%d %d\n" % (len(name), len(content)))
        digest.update(name)
        digest.update(content)
    return digest.hexdigest()


def check_root(root: Path) -> None:
    """Refuse a folder of plugins' folders in which everyone could put one in the place of another.

    Raises:
        FolderError: Everyone may write it.
        OSError: It cannot be read.
    """
    mode = root.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise FolderError(root, f"everyone on this machine may put plugins into it; run: chmod o-w '{root}'")


def _files(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_ignored(entry.name):
                continue
            status = entry.stat(follow_symlinks=False)
            _check(Path(entry.path), status)
            if stat.S_ISDIR(status.st_mode):
                yield from _files(Path(entry.path))
            else:
                yield Path(entry.path)


def _check(path: Path, status: os.stat_result) -> None:
    mode = status.st_mode
    if stat.S_ISLNK(mode):
        raise FolderError(path, "this is a symbolic link, which may lead anywhere; put what it leads to in its place")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise FolderError(path, "this is neither a file nor a folder; remove it")
    if mode & stat.S_IWOTH:
        raise FolderError(path, f"everyone on this machine may write it; run: chmod -R o-w '{path}'")

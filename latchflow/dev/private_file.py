"""Files that only their owner reads, and that a reader never sees half-written."""

import os
from pathlib import Path


def write_private(path: Path, text: str) -> None:
    """Put ``text`` into a file of mode 0600, in one step and on the disk when this returns."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise

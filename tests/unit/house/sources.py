"""The files of the repository, as the house rules read them."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

_TEXT = {".py", ".md", ".toml", ".yml", ".yaml", ".sql", ".sh", ".json", ".mako", ".txt", ""}


@cache
def files() -> tuple[Path, ...]:
    """Every text file of ours; no caches, no environments, no data of a stack."""
    return tuple(sorted(_walk()))


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def markdown() -> list[Path]:
    return [path for path in files() if path.suffix == ".md"]


def section(text: str, heading: str) -> str:
    """What stands under a heading of the second level, up to the next one."""
    _, found, rest = f"\n{text}".partition(f"\n## {heading}\n")
    assert found, f"there is no heading '## {heading}'"
    return rest.partition("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table row, without heads."""
    lines = [line.strip() for line in text.splitlines()]
    heads = {position - 1 for position, line in enumerate(lines) if line.startswith("|--")}
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for position, line in enumerate(lines)
        if line.startswith("|") and not line.startswith("|--") and position not in heads
    ]


def _walk() -> Iterator[Path]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not _is_foreign(Path(folder) / name)]
        for name in names:
            path = Path(folder) / name
            if path.suffix in _TEXT and name not in (".git", ".env"):
                yield path


def _is_foreign(folder: Path) -> bool:
    kept = (".ci", ".github")
    is_hidden = folder.name.startswith(".") and folder.name not in kept
    return is_hidden or folder.name in ("__pycache__", "build", "dist") or folder.suffix == ".egg-info"

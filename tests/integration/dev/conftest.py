from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.dev.dev_process import DevProcess


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[Callable[..., DevProcess]]:
    """Starts stacks; those that still run are stopped."""
    started: list[DevProcess] = []

    def start(*options: str, folder: Path = tmp_path, data_dir: Path | None = None, **env: str) -> DevProcess:
        folder.mkdir(exist_ok=True)
        process = DevProcess(folder, *options, data_dir=data_dir, stdout=None, **env)
        started.append(process)
        return process

    yield start
    for process in reversed(started):
        process.close()

from collections.abc import Iterator

import pytest

from tests.e2e.stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """One stack with two workers for all tests of the session; each brings definitions of its own."""
    running = Stack(tmp_path_factory.mktemp("stack"), "--processes", "2")
    yield running
    running.close()

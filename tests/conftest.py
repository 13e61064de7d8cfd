"""What all tests share."""

from collections.abc import AsyncIterator, Iterator

import pytest

from latchflow.store.database import Database
from tests.support.execution import Deployment, settings_of
from tests.support.postgres import Server, TestDatabase, running_server


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One PostgreSQL for the whole session."""
    with running_server(tmp_path_factory.mktemp("postgres") / "data") as server:
        yield server


@pytest.fixture
def database(postgres: Server) -> Iterator[TestDatabase]:
    """A migrated database of the test's own."""
    created = postgres.create_database()
    yield created
    postgres.drop_database(created)


@pytest.fixture
async def deployment(database: TestDatabase) -> AsyncIterator[Deployment]:
    """An open pool on that database, and a keyring."""
    async with Database.open(settings_of(database)) as pool:
        yield Deployment(database, pool)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--record-histories",
        action="store_true",
        help="store the histories that tests/workflow makes in tests/histories, for tests/workflow/test_replay.py",
    )

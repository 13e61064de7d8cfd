"""What all tests share."""

from collections.abc import Iterator

import pytest

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

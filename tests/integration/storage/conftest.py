from collections.abc import Iterator

import pytest

from tests.support.s3_server import S3Server, running_s3


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """One object store for the session."""
    with running_s3(tmp_path_factory.mktemp("swift") / "store") as server:
        yield server

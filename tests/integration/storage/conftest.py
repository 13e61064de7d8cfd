from collections.abc import AsyncIterator

import pytest

from tests.support.s3_server import BUCKET, S3Server, running_s3


@pytest.fixture(scope="session")
async def s3_server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[S3Server]:
    """One object store for the session, with a bucket."""
    with running_s3(tmp_path_factory.mktemp("swift") / "store") as server:
        async with server.client() as client:
            await client.create_bucket(Bucket=BUCKET)
        yield server

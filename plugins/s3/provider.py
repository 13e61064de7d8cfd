"""Keeping content in a bucket."""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from latchflow.sdk import ProviderSetup, StorageUpload

from .config import S3Config

if TYPE_CHECKING:
    from .bucket import Bucket


class S3Storage:
    """Implements `latchflow.sdk.StorageProvider`.

    The client's library is imported, and the client made, when first needed: both cost memory and time.
    """

    def __init__(self, setup: ProviderSetup[S3Config]) -> None:
        self._setup = setup
        self._bucket: Bucket | None = None
        self._lock = asyncio.Lock()

    async def put(self, upload: StorageUpload) -> None:
        """Keep the content; nothing can be read under the key before all of it is there."""
        await (await self._opened()).put(upload)

    async def get(self, key: str) -> AsyncIterator[bytes]:
        """The content, as it arrives."""
        async for chunk in (await self._opened()).get(key):
            yield chunk

    async def delete(self, key: str) -> None:
        """Remove the content, and the parts that an upload which was cut off has left."""
        await (await self._opened()).delete(key)

    async def dispose(self) -> None:
        """Close the connections."""
        async with self._lock:
            bucket, self._bucket = self._bucket, None
        if bucket is not None:
            await bucket.close()

    async def _opened(self) -> "Bucket":
        async with self._lock:
            if self._bucket is None:
                made = await asyncio.to_thread(_import_bucket)
                self._bucket = await made.open(self._setup)
            return self._bucket


def _import_bucket() -> "type[Bucket]":
    from .bucket import Bucket  # noqa: PLC0415 - 30 MB that a process without S3 does not need

    return Bucket

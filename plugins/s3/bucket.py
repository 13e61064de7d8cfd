"""One bucket: content in and out in pieces, so that memory stays flat however large it is."""

import asyncio
import io
from collections.abc import AsyncIterable, AsyncIterator
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from latchflow.sdk import Logger, ProviderSetup, ServiceError, StorageUpload

from .client import open_client
from .config import S3Config
from .failures import as_service_errors

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

PART_BYTES = 8 * 1024 * 1024
_MAX_PARTS = 10_000
_CHUNK_BYTES = 256 * 1024


class Bucket:
    """An open client of one bucket."""

    def __init__(self, config: S3Config, client: "S3Client", logger: Logger, stack: AsyncExitStack) -> None:
        self._name = config.bucket
        self._prefix = f"{config.prefix.rstrip('/')}/" if config.prefix else ""
        self._client = client
        self._logger = logger
        self._stack = stack

    @classmethod
    async def open(cls, setup: ProviderSetup[S3Config]) -> "Bucket":
        """Make the client; nothing is asked of the server yet."""
        async with AsyncExitStack() as stack:
            with as_service_errors():
                client = await open_client(setup.config, setup.secrets, setup.network, stack)
            return cls(setup.config, client, setup.logger, stack.pop_all())

    async def close(self) -> None:
        """Close the connections."""
        await self._stack.aclose()

    async def put(self, upload: StorageUpload) -> None:
        """Keep content of one part at once, and larger content part by part."""
        key = self._prefix + upload.key
        parts = aiter(_in_parts(upload.chunks))
        first = await anext(parts, b"")
        if len(first) < PART_BYTES:
            with as_service_errors():
                await self._client.put_object(
                    Bucket=self._name, Key=key, Body=io.BytesIO(first), ContentType=upload.content_type
                )
            return
        with as_service_errors():
            begun = await self._client.create_multipart_upload(
                Bucket=self._name, Key=key, ContentType=upload.content_type
            )
        try:
            await self._put_parts(key, begun["UploadId"], first, parts)
        except BaseException:
            # Whoever cancels waits for this; if it fails, `delete` of the key does it later.
            with suppress(ServiceError):
                await self._abort(key, begun["UploadId"])
            raise

    async def _put_parts(self, key: str, upload_id: str, first: bytes, rest: AsyncIterator[bytes]) -> None:
        done: list[tuple[int, str]] = []
        part = first
        while part:
            number = len(done) + 1
            if number > _MAX_PARTS:
                limit = _MAX_PARTS * PART_BYTES
                raise ServiceError("validation", f"S3 takes at most {limit} bytes in parts of this size.")
            with as_service_errors():
                answer = await self._client.upload_part(
                    Bucket=self._name, Key=key, UploadId=upload_id, PartNumber=number, Body=io.BytesIO(part)
                )
            done.append((number, answer["ETag"]))
            part = await anext(rest, b"")
        with as_service_errors():
            await self._client.complete_multipart_upload(
                Bucket=self._name,
                Key=key,
                UploadId=upload_id,
                MultipartUpload={"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in done]},
            )

    async def get(self, key: str) -> AsyncIterator[bytes]:
        """The content, as it arrives."""
        with as_service_errors():
            answer = await self._client.get_object(Bucket=self._name, Key=self._prefix + key)
        async with answer["Body"] as body:
            while True:
                with as_service_errors():
                    chunk = await body.read(_CHUNK_BYTES)
                if not chunk:
                    return
                yield chunk

    async def delete(self, key: str) -> None:
        """Remove content and the parts of uploads that never ended."""
        key = self._prefix + key
        with as_service_errors():
            await self._client.delete_object(Bucket=self._name, Key=key)
        try:
            with as_service_errors():
                unfinished = await self._client.list_multipart_uploads(Bucket=self._name, Prefix=key)
        except ServiceError as error:
            if error.is_retryable:
                raise
            # Not every server has this, and not every key may do it; a rule of the bucket can remove parts as well.
            self._logger.info("unfinished uploads cannot be listed", reason=str(error))
            return
        for upload in unfinished.get("Uploads", []):
            if upload.get("Key") == key:
                await self._abort(key, upload["UploadId"])

    async def _abort(self, key: str, upload_id: str) -> None:
        with as_service_errors():
            async with asyncio.timeout(30):
                await self._client.abort_multipart_upload(Bucket=self._name, Key=key, UploadId=upload_id)


async def _in_parts(chunks: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in parts of equal size; the last one may be smaller, and is not empty."""
    part = bytearray()
    async for chunk in chunks:
        view = memoryview(chunk)
        while len(part) + len(view) >= PART_BYTES:
            taken = PART_BYTES - len(part)
            part += view[:taken]
            yield bytes(part)
            part, view = bytearray(), view[taken:]
        part += view
    if part:
        yield bytes(part)

"""Content on its way to a provider: counted, hashed, and kept within the limit."""

import hashlib
import time
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable

import structlog

from latchflow.sdk import ServiceError, StorageProvider, StorageUpload

_REPORT_SECONDS = 60.0

log = structlog.get_logger(__name__)


class ObjectTooLargeError(ServiceError):
    """The object is larger than this deployment takes."""

    def __init__(self, limit: int) -> None:
        message = f"The object is larger than {limit} bytes, the limit of LATCHFLOW_MAX_OBJECT_BYTES."
        super().__init__("validation", message)


class Measured:
    """Content that is read once.

    Args:
        chunks: The content.
        limit: In bytes.
        report: Called about once a minute while content arrives.

    Attributes:
        size: In bytes, of what was read by now.
    """

    def __init__(self, chunks: AsyncIterable[bytes], limit: int, report: Callable[[], Awaitable[None]]) -> None:
        self._chunks = chunks
        self._limit = limit
        self._report = report
        self._hash = hashlib.sha256()
        self._failure: BaseException | None = None
        self._is_read = False
        self.size = 0

    @property
    def sha256(self) -> bytes:
        """Of what was read by now."""
        return self._hash.digest()

    async def hand_to(self, provider: StorageProvider, key: str, content_type: str) -> None:
        """Let a provider keep it under a key.

        Raises:
            ServiceError: ``validation`` when it is too large or no bytes, or what the provider raised.
            Exception: What the source of the content raised, whatever the provider made of it.
        """
        try:
            await provider.put(StorageUpload(key=key, chunks=self._measure(), content_type=content_type))
        except Exception as error:
            if self._failure is not None:
                raise self._failure from None
            if isinstance(error, ServiceError):
                raise
            log.exception("storage_provider_broke", storage_key=key)
            raise ServiceError("fatal", f"The storage provider broke ({type(error).__name__}).") from error
        if self._failure is not None:
            raise self._failure
        if not self._is_read:
            raise ServiceError("fatal", "The storage provider did not read the content to its end.")

    async def _measure(self) -> AsyncIterator[bytes]:
        reported_at = time.monotonic()
        try:
            async for chunk in self._chunks:
                if not isinstance(chunk, bytes | bytearray | memoryview):
                    raise ServiceError("validation", f"The content must come as bytes, not as {type(chunk).__name__}.")
                self._hash.update(chunk)
                self.size += len(chunk)
                if self.size > self._limit:
                    raise ObjectTooLargeError(self._limit)
                if time.monotonic() - reported_at > _REPORT_SECONDS:
                    await self._report()
                    reported_at = time.monotonic()
                if chunk:
                    yield bytes(chunk)
        except GeneratorExit:
            raise
        except BaseException as failure:
            self._failure = failure
            raise
        self._is_read = True

"""Bundles for plugins and for the API: objects that are streamed, held by whichever provider is active."""

import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID, uuid4

import structlog

from latchflow.errors import ConflictError, LatchflowError, NotFoundError
from latchflow.sdk import ReleaseLink, ServiceError, StorageProvider, StoredObject
from latchflow.services.local_files import LocalFiles
from latchflow.services.object_paths import check_content_type, check_path
from latchflow.services.upload import Measured
from latchflow.settings import Settings
from latchflow.store import links, uploads
from latchflow.store.bundle_objects import BundleObject, find_object, store_object
from latchflow.store.bundles import get_bundle
from latchflow.store.database import Connection, Database
from latchflow.store.uploads import Held

LOCAL = "local"
"""The id of the folder of `LocalFiles` among the providers."""
MAX_LIFE = timedelta(days=366)
MAX_DOWNLOADS = 1_000_000_000
_LEFTOVERS_AT_ONCE = 100

log = structlog.get_logger(__name__)


class Providers(Protocol):
    """The storage providers of this process. An id stands beside every object: it must stay the same for good."""

    async def active(self) -> tuple[str, StorageProvider] | None:
        """The provider that new objects go to, and its id; None when none is configured."""
        ...

    async def get(self, provider_id: str) -> StorageProvider | None:
        """The provider of an id; None when it is not configured here."""
        ...


class NoProviders:
    """A deployment without storage providers."""

    async def active(self) -> tuple[str, StorageProvider] | None:
        """None."""
        return None

    async def get(self, provider_id: str) -> StorageProvider | None:
        """None."""
        return None


@dataclass(frozen=True, kw_only=True)
class OpenObject:
    """An object whose content has begun to arrive.

    Attributes:
        chunks: Close it when it is not read to its end.
    """

    entry: BundleObject
    chunks: AsyncGenerator[bytes]


class Storage:
    """Implements `latchflow.runtime.guard.StorageBackend`.

    Args:
        database: Knows which content a path has; the content itself is with the providers.
        local: Takes what is stored while no provider is configured; None when the operator has named no folder.
        providers: The configured ones.
        public_url: What links begin with; empty when the operator has not said.
        max_object_bytes: Larger objects are refused.
    """

    def __init__(
        self,
        database: Database,
        local: StorageProvider | None,
        *,
        providers: Providers | None = None,
        public_url: str,
        max_object_bytes: int,
    ) -> None:
        self._database = database
        self._local = local
        self._providers = providers or NoProviders()
        self._public_url = public_url.rstrip("/")
        self._max_object_bytes = max_object_bytes

    async def put(
        self, bundle_id: UUID, path: str, chunks: AsyncIterable[bytes], *, content_type: str, actor: str
    ) -> StoredObject:
        """Write an object. Raises as `latchflow.sdk.StorageService.put`."""
        entry, _ = await self.write(bundle_id, path, chunks, content_type=content_type, actor=actor)
        return StoredObject(
            bundle_id=bundle_id,
            path=path,
            size=entry.size,
            sha256=entry.sha256.hex(),
            content_type=content_type,
        )

    async def write(
        self, bundle_id: UUID, path: str, chunks: AsyncIterable[bytes], *, content_type: str, actor: str
    ) -> tuple[BundleObject, bool]:
        """As `put`.

        Returns:
            The object, and whether it replaced another.
        """
        check_path(path)
        check_content_type(content_type)
        async with self._connection() as connection:
            await get_bundle(connection, bundle_id)
        provider_id, provider = await self._active()
        held = Held(provider=provider_id, storage_key=f"{bundle_id}/{uuid4()}")
        async with self._connection() as connection:
            await uploads.begin(connection, held)
        try:
            content = Measured(chunks, self._max_object_bytes, lambda: self._report_alive(held))
            await content.hand_to(provider, held.storage_key, content_type)
            entry = BundleObject(
                bundle_id=bundle_id,
                path=path,
                size=content.size,
                sha256=content.sha256,
                content_type=content_type,
                provider=held.provider,
                storage_key=held.storage_key,
                created_at=datetime.now(UTC),
                created_by=actor,
            )
            async with self._transaction() as connection:
                return entry, await store_object(connection, entry)
        except BaseException:
            await self._give_up(held)
            raise

    async def get(self, bundle_id: UUID, path: str) -> AsyncIterator[bytes]:
        """The content of an object. Raises as `latchflow.sdk.StorageService.get`."""
        opened = await self.open(bundle_id, path)
        async with contextlib.aclosing(opened.chunks) as chunks:
            async for chunk in chunks:
                yield chunk

    async def open(self, bundle_id: UUID, path: str) -> OpenObject:
        """An object whose first bytes are there, so that what can go wrong at the beginning has not.

        Raises:
            ServiceError: As `get`.
        """
        check_path(path)
        async with self._connection() as connection:
            entry = await find_object(connection, bundle_id, path)
        chunks = aiter((await self._holder(entry.provider)).get(entry.storage_key))
        try:
            first = await anext(chunks, b"")
        except ServiceError as error:
            if error.kind != "not_found":
                raise
            # The row is the truth; without its content the object is broken, not absent.
            log.error("content_missing", bundle_id=str(bundle_id), path=path, provider=entry.provider)
            message = f"The provider {entry.provider} has lost the content of this object. Store it again."
            raise ServiceError("fatal", message) from error
        return OpenObject(entry=entry, chunks=_from_first(first, chunks))

    async def create_release_link(
        self, bundle_id: UUID, *, expires_in: timedelta, max_downloads: int | None, actor: str, key: str | None = None
    ) -> ReleaseLink:
        """Make a link. Raises as `latchflow.sdk.StorageService.create_release_link`."""
        if not self._public_url:
            message = "Links need LATCHFLOW_PUBLIC_URL, the address under which people reach the API. Set it."
            raise ServiceError("fatal", message)
        if not isinstance(expires_in, timedelta) or not timedelta(seconds=1) <= expires_in <= MAX_LIFE:
            raise ServiceError("validation", "expires_in: a link lives between a second and a year.")
        if max_downloads is not None and not (type(max_downloads) is int and 1 <= max_downloads <= MAX_DOWNLOADS):
            raise ServiceError("validation", "max_downloads: at least 1, or None for no limit.")
        async with self._transaction() as connection:
            token, row = await links.create_link(
                connection, bundle_id, expires_in=expires_in, max_downloads=max_downloads, actor=actor, key=key
            )
        return ReleaseLink(id=row["id"], url=f"{self._public_url}/release/{token}", expires_at=row["expires_at"])

    async def remove_leftovers(self) -> int:
        """Remove contents that belong to no object, and forget old links; any number of processes may do it at once.

        Returns:
            How many contents were removed; call it again while that is more than none.
        """
        async with self._database.connection() as connection:
            await links.forget_links(connection)
            claimed = await uploads.claim_leftovers(connection, limit=_LEFTOVERS_AT_ONCE)
        removed = 0
        for held in claimed:
            try:
                await (await self._holder(held.provider)).delete(held.storage_key)
            except ServiceError as error:
                log.warning("content is still to be removed", provider=held.provider, reason=str(error))
                continue
            async with self._database.connection() as connection:
                await uploads.forget(connection, held)
            removed += 1
        return removed

    async def _active(self) -> tuple[str, StorageProvider]:
        active = await self._providers.active()
        if active is not None:
            return active
        return LOCAL, await self._holder(LOCAL)

    async def _holder(self, provider_id: str) -> StorageProvider:
        if provider_id != LOCAL:
            provider = await self._providers.get(provider_id)
            if provider is None:
                message = f"The storage provider {provider_id} is not configured. An admin must configure it again."
                raise ServiceError("retryable", message)
            return provider
        if self._local is None:
            message = (
                "There is nowhere to keep objects. An operator sets LATCHFLOW_STORAGE_DIR, or an admin configures a "
                "storage provider."
            )
            raise ServiceError("fatal", message)
        return self._local

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        with _as_service_errors():
            async with self._database.connection() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        with _as_service_errors():
            async with self._database.transaction() as connection:
                yield connection

    async def _report_alive(self, held: Held) -> None:
        with contextlib.suppress(LatchflowError):  # the next report may get through
            async with self._database.connection() as connection:
                await uploads.report_alive(connection, held)

    async def _give_up(self, held: Held) -> None:
        """Let it be removed soon; without this it would be, a quarter of an hour later."""
        with contextlib.suppress(LatchflowError):
            async with self._database.connection() as connection:
                await uploads.give_up(connection, held)


def storage_of(settings: Settings, database: Database, providers: Providers | None = None) -> Storage:
    """The storage that the settings describe, for a process with these providers."""
    return Storage(
        database,
        LocalFiles(settings.storage_dir) if settings.storage_dir is not None else None,
        providers=providers,
        public_url=settings.public_url,
        max_object_bytes=settings.max_object_bytes,
    )


async def _from_first(first: bytes, chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes]:
    try:
        if first:
            yield first
        async for chunk in chunks:
            yield chunk
    finally:
        close = getattr(chunks, "aclose", None)
        if close is not None:
            await close()


@contextlib.contextmanager
def _as_service_errors() -> Iterator[None]:
    """What the database says, in the words of the SDK."""
    try:
        yield
    except NotFoundError as error:
        raise ServiceError("not_found", error.message) from None
    except ConflictError as error:
        raise ServiceError("retryable", error.message) from None
    except LatchflowError as error:
        raise ServiceError("retryable", error.message) from error

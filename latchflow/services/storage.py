"""Bundles for plugins and for the API: objects that are streamed, held by whichever provider is active."""

import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Iterator
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
"""The name of the folder of `LocalFiles` among the providers."""
MAX_LIFE = timedelta(days=366)
MAX_DOWNLOADS = 1_000_000_000
_LEFTOVERS_AT_ONCE = 100

log = structlog.get_logger(__name__)


class Providers(Protocol):
    """The storage providers of this process; one stays ready while the block runs that it was asked for in."""

    def active(self) -> contextlib.AbstractAsyncContextManager[tuple[str, StorageProvider] | None]:
        """The provider that new objects go to, and its name, which stays the same; None when none is configured."""
        ...

    def named(self, name: str) -> contextlib.AbstractAsyncContextManager[StorageProvider | None]:
        """The provider of a name; None when it is not configured here."""
        ...


class NoProviders:
    """A deployment without storage providers."""

    @contextlib.asynccontextmanager
    async def active(self) -> AsyncIterator[tuple[str, StorageProvider] | None]:
        """None."""
        yield None

    @contextlib.asynccontextmanager
    async def named(self, name: str) -> AsyncIterator[StorageProvider | None]:
        """None."""
        yield None


class OpenObject:
    """An object whose content has begun to arrive; close it, also when it was never read.

    Attributes:
        entry: What is known of it.
    """

    def __init__(
        self, entry: BundleObject, first: bytes, rest: AsyncIterator[bytes], stack: contextlib.AsyncExitStack
    ) -> None:
        self.entry = entry
        self._first = first
        self._rest = rest
        self._stack = stack

    async def chunks(self) -> AsyncIterator[bytes]:
        """The content, once."""
        if self._first:
            yield self._first
        async for chunk in self._rest:
            yield chunk

    async def aclose(self) -> None:
        """Let go of the content."""
        close = getattr(self._rest, "aclose", None)
        if close is not None:
            await close()
        await self._stack.aclose()


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
        async with self._active() as (name, provider):
            held = Held(provider=name, storage_key=f"{bundle_id}/{uuid4()}")
            return await self._upload(held, provider, bundle_id, path, chunks, content_type, actor)

    async def _upload(
        self,
        held: Held,
        provider: StorageProvider,
        bundle_id: UUID,
        path: str,
        chunks: AsyncIterable[bytes],
        content_type: str,
        actor: str,
    ) -> tuple[BundleObject, bool]:
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
        async with contextlib.aclosing(await self.open(bundle_id, path)) as opened:
            async for chunk in opened.chunks():
                yield chunk

    async def open(self, bundle_id: UUID, path: str) -> OpenObject:
        """An object whose first bytes are there, so that what can go wrong at the beginning has not.

        Raises:
            ServiceError: As `get`.
        """
        check_path(path)
        async with self._connection() as connection:
            entry = await find_object(connection, bundle_id, path)
        async with contextlib.AsyncExitStack() as stack:
            provider = await stack.enter_async_context(self._named(entry.provider))
            chunks = aiter(provider.get(entry.storage_key))
            try:
                first = await anext(chunks, b"")
            except ServiceError as error:
                if error.kind != "not_found":
                    raise
                # The row is the truth; without its content the object is broken, not absent.
                log.error("content_missing", bundle_id=str(bundle_id), path=path, provider=entry.provider)
                message = f"The provider {entry.provider} has lost the content of this object. Store it again."
                raise ServiceError("fatal", message) from error
            return OpenObject(entry, first, chunks, stack.pop_all())

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
            made = await links.create_link(
                connection, bundle_id, expires_in=expires_in, max_downloads=max_downloads, actor=actor, key=key
            )
        if made is None:
            raise ServiceError("fatal", "The link that an earlier attempt made was revoked.")
        token, row = made
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
                async with self._named(held.provider) as provider:
                    await provider.delete(held.storage_key)
            except ServiceError as error:
                log.warning("content is still to be removed", provider=held.provider, reason=str(error))
                continue
            async with self._database.connection() as connection:
                await uploads.forget(connection, held)
            removed += 1
        return removed

    @contextlib.asynccontextmanager
    async def _active(self) -> AsyncIterator[tuple[str, StorageProvider]]:
        async with self._providers.active() as active:
            yield active if active is not None else (LOCAL, self._local_files())

    @contextlib.asynccontextmanager
    async def _named(self, name: str) -> AsyncIterator[StorageProvider]:
        if name == LOCAL:
            yield self._local_files()
            return
        async with self._providers.named(name) as provider:
            if provider is None:
                message = f"The storage provider {name} is not configured. An admin must configure it again."
                raise ServiceError("retryable", message)
            yield provider

    def _local_files(self) -> StorageProvider:
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

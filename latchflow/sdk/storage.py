"""Files: bundles of objects, links to them, and what a provider of the kind ``storage`` does."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable
from uuid import UUID


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """An object of a bundle.

    Attributes:
        path: Its name in the bundle, like ``reports/2026.pdf``.
        size: In bytes.
        sha256: Of its content, in hex.
    """

    bundle_id: UUID
    path: str
    size: int
    sha256: str
    content_type: str


@dataclass(frozen=True, kw_only=True)
class ReleaseLink:
    """A link under which anyone who has it may fetch a bundle, until it expires, is used up or is revoked.

    Attributes:
        url: Holds the secret; it is shown this once.
    """

    id: UUID
    url: str
    expires_at: datetime


class StorageService(Protocol):
    """Objects in bundles, streamed: no object is ever held in memory whole."""

    async def put(
        self,
        bundle_id: UUID | str,
        path: str,
        content: bytes | AsyncIterable[bytes],
        *,
        content_type: str = "application/octet-stream",
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("storage:write",),
    ) -> StoredObject:
        """Write an object; one of the same path is replaced once the new one is complete.

        Raises:
            ServiceError: ``denied`` without the scope, ``validation`` for a path that leaves the bundle, ``not_found``
                for an unknown bundle, ``retryable`` when the storage is away.
        """
        ...

    def get(
        self,
        bundle_id: UUID | str,
        path: str,
        *,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("storage:read",),
    ) -> AsyncIterator[bytes]:
        """The content of an object, chunk by chunk. Raises as `put`, ``not_found`` for an unknown path too."""
        ...

    async def create_release_link(
        self,
        bundle_id: UUID | str,
        *,
        expires_in: timedelta,
        max_downloads: int | None = None,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("storage:read",),
    ) -> ReleaseLink:
        """Make a link that hands the bundle's objects out. A repeated attempt gets the link of the first.

        Raises:
            ServiceError: ``denied`` without the scope, ``not_found`` for an unknown bundle, ``validation`` for an
                expiry that is not between a second and a year.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class StorageUpload:
    """What a storage provider is asked to keep.

    Attributes:
        key: Where to keep it: letters, digits, ``/``, ``-``, ``_`` and ``.``; never seen before.
        chunks: The content; read it once, in order.
    """

    key: str
    chunks: AsyncIterable[bytes]
    content_type: str


@runtime_checkable
class StorageProvider(Protocol):
    """What a class registered with ``kind="storage"`` must have. Keys are made by core and never reused."""

    async def put(self, upload: StorageUpload) -> None:
        """Keep the content under the key; after an error nothing may be readable there.

        Raises:
            ServiceError: ``retryable`` when another attempt may do better, else ``fatal``.
        """
        ...

    def get(self, key: str) -> AsyncIterator[bytes]:
        """The content, chunk by chunk. Raises as `put`, and ``not_found``."""
        ...

    async def delete(self, key: str) -> None:
        """Remove it; an unknown key is no error. Raises as `put`."""
        ...

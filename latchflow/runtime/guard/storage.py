"""Storage behind the guard."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from datetime import timedelta
from uuid import UUID

from pydantic import TypeAdapter

from latchflow.runtime.guard.arguments import actor_of, bytes_of, duration_of, id_of, number_of, scopes_of, text_of
from latchflow.runtime.guard.backends import StorageBackend
from latchflow.runtime.guard.grant import Asked, Effect, Grant, Handle
from latchflow.runtime.providers.chunks import OwnedChunks
from latchflow.sdk import ReleaseLink, StoredObject

_OBJECT = TypeAdapter(StoredObject)
_LINK = TypeAdapter(ReleaseLink)


class GuardedStorage:
    """`latchflow.sdk.StorageService` for one attempt."""

    def __init__(self, backend: StorageBackend, grant: Grant, actor: str) -> None:
        self._backend = backend
        self._grant = grant
        self._actor = actor

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
        """Write an object, once for all attempts."""
        bundle = id_of(bundle_id, "bundle")
        asked = self._asked("storage.put", scopes_of("storage:write", requested_scopes), actor_id, bundle)
        name, media_type = text_of(path, "The path"), text_of(content_type, "The content type")
        chunks = (
            _whole(bytes_of(content, "The content"))
            if isinstance(content, bytes)
            else _from_loop(content, asyncio.get_running_loop())
        )

        async def work(_: Handle) -> StoredObject:
            return await self._backend.put(bundle, name, chunks, content_type=media_type, actor=self._actor)

        effect = Effect(target=f"{bundle}/{name}", result=_OBJECT, is_repeatable=True)
        return await self._grant.effect(asked, effect, work)

    async def get(
        self,
        bundle_id: UUID | str,
        path: str,
        *,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("storage:read",),
    ) -> AsyncIterator[bytes]:
        """The content of an object; audited when it begins."""
        bundle = id_of(bundle_id, "bundle")
        asked = self._asked("storage.get", scopes_of("storage:read", requested_scopes), actor_id, bundle)
        name = text_of(path, "The path")

        async def begin() -> tuple[OwnedChunks, bytes | None]:
            chunks = OwnedChunks(self._backend.get(bundle, name))
            return chunks, await chunks.next()

        chunks, chunk = await self._grant.watch(asked, begin)
        try:
            while chunk is not None:
                yield chunk
                self._grant.require_open()
                chunk = await self._grant.on_host(chunks.next())
        finally:
            await self._grant.on_host(chunks.close())

    async def create_release_link(
        self,
        bundle_id: UUID | str,
        *,
        expires_in: timedelta,
        max_downloads: int | None = None,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("storage:read",),
    ) -> ReleaseLink:
        """Make a link, once for all attempts."""
        bundle = id_of(bundle_id, "bundle")
        scopes = scopes_of("storage:read", requested_scopes)
        asked = self._asked("storage.create_release_link", scopes, actor_id, bundle)

        lifetime = duration_of(expires_in, "expires_in")
        most = None if max_downloads is None else number_of(max_downloads, "max_downloads")

        async def work(handle: Handle) -> ReleaseLink:
            return await self._backend.create_release_link(
                bundle, expires_in=lifetime, max_downloads=most, key=handle.key, actor=self._actor
            )

        # How long it lives may be reckoned from the clock.
        effect = Effect(target=str(bundle), content=f"at most {most}", result=_LINK, is_repeatable=True)
        return await self._grant.effect(asked, effect, work)

    def _asked(self, service: str, scopes: Sequence[str], actor_id: str | None, bundle: UUID) -> Asked:
        return Asked(service=service, scopes=scopes, actor_id=actor_of(actor_id), detail={"bundleId": str(bundle)})


async def _whole(content: bytes) -> AsyncIterator[bytes]:
    if content:
        yield content


async def _from_loop(content: AsyncIterable[bytes], loop: asyncio.AbstractEventLoop) -> AsyncIterator[bytes]:
    """The chunks that plugin code makes on its own loop."""
    chunks = OwnedChunks(_plain(content))
    while (chunk := await chunks.next_on(loop)) is not None:
        yield chunk


async def _plain(content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for chunk in content:
        yield bytes_of(chunk, "A chunk of the content")

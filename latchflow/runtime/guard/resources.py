"""Switching things on and off behind the guard."""

from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

from pydantic import TypeAdapter

from latchflow.runtime.guard.arguments import actor_of, id_of, scopes_of, switch_of
from latchflow.runtime.guard.backends import ResourceBackend
from latchflow.runtime.guard.grant import Asked, Effect, Grant, Handle

_NOTHING: TypeAdapter[None] = TypeAdapter(None)


class GuardedResources:
    """`latchflow.sdk.ResourceService` for one attempt."""

    def __init__(self, backend: ResourceBackend, grant: Grant, actor: str) -> None:
        self._backend = backend
        self._grant = grant
        self._actor = actor

    async def set_bundle_enabled(
        self,
        bundle_id: UUID | str,
        is_enabled: bool,
        *,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("bundles:toggle",),
    ) -> None:
        """Switch a bundle, once for all attempts."""
        bundle = id_of(bundle_id, "bundle")
        scopes = scopes_of("bundles:toggle", requested_scopes)
        is_enabled = switch_of(is_enabled)
        detail = {"bundleId": str(bundle), "isEnabled": is_enabled}
        asked = Asked(service="resources.set_bundle_enabled", scopes=scopes, actor_id=actor_of(actor_id), detail=detail)
        await self._set(
            asked,
            bundle,
            is_enabled,
            lambda: self._backend.set_bundle_enabled(bundle, is_enabled, actor=self._actor),
        )

    async def set_pipeline_enabled(
        self,
        pipeline_id: UUID | str,
        is_enabled: bool,
        *,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("pipelines:toggle",),
    ) -> None:
        """Switch a pipeline, once for all attempts."""
        pipeline = id_of(pipeline_id, "pipeline")
        scopes = scopes_of("pipelines:toggle", requested_scopes)
        is_enabled = switch_of(is_enabled)
        detail = {"pipelineId": str(pipeline), "isEnabled": is_enabled}
        asked = Asked(
            service="resources.set_pipeline_enabled", scopes=scopes, actor_id=actor_of(actor_id), detail=detail
        )
        await self._set(
            asked,
            pipeline,
            is_enabled,
            lambda: self._backend.set_pipeline_enabled(pipeline, is_enabled, actor=self._actor),
        )

    async def _set(self, asked: Asked, target: UUID, is_enabled: bool, work: Callable[[], Awaitable[None]]) -> None:
        async def carry_out(_: Handle) -> None:
            await work()

        effect: Effect[None] = Effect(target=str(target), content=str(is_enabled), result=_NOTHING, is_repeatable=True)
        await self._grant.effect(asked, effect, carry_out)

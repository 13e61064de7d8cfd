"""Switching things of the deployment on and off."""

from collections.abc import Sequence
from typing import Protocol
from uuid import UUID


class ResourceService(Protocol):
    """Each call sets a state, so repeating it changes nothing."""

    async def set_bundle_enabled(
        self,
        bundle_id: UUID | str,
        is_enabled: bool,
        *,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("bundles:toggle",),
    ) -> None:
        """Switch a bundle on or off; the links of a disabled one answer 410.

        Raises:
            ServiceError: ``denied`` without the scope, ``not_found``.
        """
        ...

    async def set_pipeline_enabled(
        self,
        pipeline_id: UUID | str,
        is_enabled: bool,
        *,
        actor_id: str | None = None,
        requested_scopes: Sequence[str] = ("pipelines:toggle",),
    ) -> None:
        """Switch a pipeline on or off; events that are open already go on.

        Raises:
            ServiceError: ``denied`` without the scope, ``not_found``.
        """
        ...

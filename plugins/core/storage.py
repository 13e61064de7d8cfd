"""The action ``storage.publish``."""

from datetime import UTC, timedelta
from typing import Any, Literal
from uuid import UUID

from pydantic import Field

from latchflow.sdk import ActionCall

from .config import ActionConfig, merged, required

_YEAR_SECONDS = 366 * 24 * 60 * 60


class StoragePublishConfig(ActionConfig):
    """The link to make. Needed at the call: ``bundleId`` and ``expiresInSeconds``."""

    bundle_id: UUID | None = None
    expires_in_seconds: int | None = Field(None, ge=1, le=_YEAR_SECONDS, strict=True)
    max_downloads: int | None = Field(
        None, ge=1, le=1_000_000_000, strict=True, description="Of single objects, in all. Default: no limit."
    )
    overridable: list[Literal["bundleId", "expiresInSeconds", "maxDownloads"]] | None = Field(
        None, description="Fields that the event's context may set where the step has no input."
    )


async def storage_publish(call: ActionCall[StoragePublishConfig]) -> dict[str, Any]:
    """Make a link to a bundle; all attempts of an invocation make one."""
    config = merged(call)
    seconds = required(config.expires_in_seconds, "expiresInSeconds")
    link = await call.services.storage.create_release_link(
        required(config.bundle_id, "bundleId"),
        expires_in=timedelta(seconds=seconds),
        max_downloads=config.max_downloads,
    )
    return {"url": link.url, "expiresAt": link.expires_at.astimezone(UTC).isoformat()}

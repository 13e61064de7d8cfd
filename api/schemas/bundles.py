"""Bundles, their objects and release links."""

from typing import Annotated
from uuid import UUID

from pydantic import Field

from api.schemas.conventions import Answer, Body, Listing, Name, Time
from api.schemas.definitions import Switch
from latchflow.services.storage import MAX_DOWNLOADS, MAX_LIFE

Description = Annotated[str, Field(max_length=10_000)]
LifeSeconds = Annotated[int, Field(ge=1, le=int(MAX_LIFE.total_seconds()), strict=True)]
MaxDownloads = Annotated[int, Field(ge=1, le=MAX_DOWNLOADS, strict=True, description="Of single objects, in all.")]


class BundleCreate(Body):
    """A new bundle."""

    name: Name
    description: Description = ""
    is_enabled: Switch = True


class BundlePatch(Body):
    """Changes of a bundle; its objects and links have endpoints of their own."""

    name: Name = ""
    description: Description = ""
    is_enabled: Switch = True


class Bundle(Answer):
    """A bundle."""

    id: UUID
    name: str
    description: str
    is_enabled: bool
    version: int
    created_at: Time
    updated_at: Time


class BundleObject(Answer):
    """An object, without its content."""

    path: str
    size: int
    sha256: str
    content_type: str
    created_at: Time
    created_by: str


class BundleWithObjects(Bundle):
    """A bundle with a page of its objects."""

    objects: Listing[BundleObject]


class LinkCreate(Body):
    """A new link."""

    expires_in_seconds: LifeSeconds
    max_downloads: MaxDownloads | None = None


class Link(Answer):
    """A link, without what opens it."""

    id: UUID
    created_at: Time
    created_by: str
    expires_at: Time
    max_downloads: int | None
    downloads: int
    last_used_at: Time | None
    revoked_at: Time | None


class CreatedLink(Answer):
    """A new link; this answer is the only one that shows its address."""

    id: UUID
    url: str
    expires_at: Time


class ReleasedObject(Answer):
    """What holders of a link see of an object."""

    path: str
    size: int
    sha256: str
    content_type: str


class Release(Answer):
    """What a link releases."""

    name: str
    expires_at: Time
    objects: Listing[ReleasedObject]


class Download(Body):
    """Which object to download."""

    path: Annotated[str, Field(max_length=1024)]

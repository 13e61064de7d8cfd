"""Plugins."""

from typing import Annotated, Any
from uuid import UUID

from pydantic import Field

from api.schemas.conventions import Answer, Time


class Capability(Answer):
    """One trigger or action type of a plugin."""

    id: UUID
    kind: str
    key: str
    display_name: str
    config_schema: dict[str, Any]
    scopes: list[str]


class Provider(Answer):
    """A provider of a plugin."""

    kind: str
    id: str
    display_name: str
    config_schema: dict[str, Any]
    config_key: Annotated[str, Field(description="Its key in the system config.")]
    is_configured: bool
    is_active: Annotated[bool, Field(description="Whether it is the one of its kind that is used.")]
    problem: Annotated[str | None, Field(description="Why its config cannot be used.")]


class Instance(Answer):
    """A process that loaded the plugin."""

    process_id: UUID
    role: str
    identity: str
    version: str
    code_hash: str
    started_at: Time
    seen_at: Time


class Plugin(Answer):
    """An installed plugin with what it brings and where it runs."""

    id: UUID
    name: str
    display_name: str
    version: str
    status: str
    error: str | None
    scopes: list[str]
    granted_scopes: list[str]
    capabilities: list[Capability]
    providers: list[Provider]
    instances: list[Instance]

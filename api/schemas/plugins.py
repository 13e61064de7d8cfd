"""Plugins."""

from typing import Any
from uuid import UUID

from api.schemas.conventions import Answer, Time


class Capability(Answer):
    """One trigger or action type of a plugin."""

    id: UUID
    kind: str
    key: str
    display_name: str
    config_schema: dict[str, Any]
    scopes: list[str]


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
    providers: list[Any]
    instances: list[Instance]

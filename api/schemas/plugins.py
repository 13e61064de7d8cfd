"""Plugins."""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from api.schemas.conventions import Answer, Body, Time

Named = Annotated[str, Field(max_length=100)]


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
    defaults: Annotated[
        dict[str, str], Field(description="The environment variable that stands in for a property that is not set.")
    ]
    is_configured: bool
    is_active: Annotated[bool, Field(description="Whether it is the one of its kind that is used.")]
    problem: Annotated[str | None, Field(description="Why its config cannot be used.")]


class Instance(Answer):
    """A process that runs the plugin, or should and cannot."""

    process_id: UUID
    role: str
    identity: str
    version: str
    code_hash: str
    state: Literal["loaded", "failed"]
    error: str | None
    started_at: Time
    seen_at: Time


class Plugin(Answer):
    """A plugin with what it brings and where it runs.

    Attributes:
        error: Why it is FAILED; of an enabled one, why the newer code in its folder does not run instead.
        mixed: Processes that live run different versions, or another one than shall run.
    """

    id: UUID
    name: str
    display_name: str
    version: str
    code_hash: str
    status: str
    error: str | None
    mixed: bool
    scopes: list[str]
    granted_scopes: list[str]
    capabilities: list[Capability]
    providers: list[Provider]
    instances: list[Instance]


class PluginPatch(Body):
    """What an admin decides about a plugin; only what is sent changes."""

    status: Literal["ENABLED", "DISABLED"] = "ENABLED"
    granted_scopes: list[Named] = Field(default_factory=list, max_length=50)


class PluginProcess(Answer):
    """A process, as far as one plugin goes."""

    process_id: UUID
    identity: str
    role: str
    version: str
    code_hash: str
    state: Literal["loaded", "failed"]
    error: str | None
    since: Time


class LastError(Answer):
    """The last error of a capability."""

    type: str
    message: str
    at: Time


class Durations(Answer):
    """How long calls took, in milliseconds.

    Attributes:
        p50: Half of them took no longer.
        p95: 95 of 100 took no longer.
    """

    p50: float | None
    p95: float | None


class CapabilityStatus(Answer):
    """Numbers of one capability over all processes that live, since each loaded the version it runs.

    Attributes:
        counts: By phase: how attempts of an action ended, how requests to a trigger were answered.
        error_rate: The share of failures among what succeeded or failed, retried attempts included.
        duration_ms: Of the last calls, up to 512 of each process.
    """

    kind: str
    key: str
    counts: dict[str, int]
    error_rate: float | None
    duration_ms: Durations
    last_error: LastError | None


class PluginStatus(Answer):
    """How a plugin is doing."""

    id: UUID
    name: str
    version: str
    code_hash: str
    status: str
    error: str | None
    mixed: bool
    processes: list[PluginProcess]
    capabilities: list[CapabilityStatus]

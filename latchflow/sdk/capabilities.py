"""What an author registered, as core reads it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from latchflow.sdk.actions import Action, ActionCall
from latchflow.sdk.residents import ResidentTrigger
from latchflow.sdk.schedules import Schedule
from latchflow.sdk.triggers import Emit, InboundRequest, Reject

ConfigSchema = Mapping[str, Any] | type[BaseModel]
"""A JSON Schema (2020-12) or a Pydantic model.

``writeOnly: true`` marks a secret property. ``x-latchflow-template: true`` marks a property whose strings, at any
depth, are CEL expressions: core checks them when the definition is saved, and hands the property over evaluated.
"""

InboundAnswer = Emit | Reject | list[Emit]
MigrateConfig = Callable[[str, Mapping[str, Any]], Mapping[str, Any]]
"""``migrate_config(from_version, config)``: the config, secrets included, as this version of the plugin has it."""

ProviderKind = Literal["email", "storage"]


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What every capability has.

    Attributes:
        key: Unique among the plugin's capabilities of its kind.
        migrate_config: Brings a config that an earlier version saved up to date.
    """

    key: str
    display_name: str
    config_schema: ConfigSchema
    migrate_config: MigrateConfig | None = None


@dataclass(frozen=True, kw_only=True)
class ActionCapability(Capability):
    """An action type as registered.

    Attributes:
        action: A function that takes an `ActionCall`, or a class like `Action`.
        resume: Of a function: what is called after it answered `Pending`.
        stall_timeout_seconds: The attempt ends when the action reports no progress for this long; None: no such limit.
    """

    action: Callable[[ActionCall[Any]], Any] | type[Action]
    resume: Callable[[ActionCall[Any], Any], Any] | None = None
    scopes: Sequence[str] = ()
    is_inline: bool = False
    stall_timeout_seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class InboundCapability(Capability):
    """An inbound trigger type as registered."""

    function: Callable[[InboundRequest, Any], InboundAnswer | Awaitable[InboundAnswer]]


@dataclass(frozen=True, kw_only=True)
class ScheduledCapability(Capability):
    """A scheduled trigger type as registered."""

    function: Callable[[Any], Schedule]


@dataclass(frozen=True, kw_only=True)
class ResidentCapability(Capability):
    """A resident trigger type as registered."""

    trigger: type[ResidentTrigger[Any]]


@dataclass(frozen=True, kw_only=True)
class ProviderDeclaration:
    """A provider as registered.

    Attributes:
        provider: A class with the protocol of the kind, made with a `ProviderSetup`.
        defaults: For a property of the config, the environment variable it is read from while the config lacks it.
    """

    kind: ProviderKind
    id: str
    display_name: str
    config_schema: ConfigSchema
    provider: Callable[[Any], Any]
    defaults: Mapping[str, str] = field(default_factory=dict)

"""The capabilities this process can run: an immutable snapshot, keyed by plugin, kind and key."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from latchflow.config_schemas import secret_names, template_names
from latchflow.runtime.contract import ContractError, contract_of, schema_of
from latchflow.runtime.discovery import PluginSource
from latchflow.runtime.loading import load_package
from latchflow.runtime.loops import PluginLoop
from latchflow.sdk import (
    ActionCall,
    ActionCapability,
    InboundCapability,
    Plugin,
    ProviderDeclaration,
    ResidentCapability,
    ScheduledCapability,
)
from latchflow.sdk.capabilities import Capability, ConfigSchema

CapabilityT = TypeVar("CapabilityT", bound=Capability)


@dataclass(frozen=True, kw_only=True)
class LoadedPlugin:
    """One version of a plugin in this process, with the loop its code runs on."""

    name: str
    version: str
    code_hash: str
    granted_scopes: frozenset[str]
    loop: PluginLoop


@dataclass(frozen=True, kw_only=True)
class Configured:
    """What has a config.

    Attributes:
        schema: The JSON Schema of its config.
        model: The Pydantic model of its config; None when the schema is a ``dict``.
        secret_names: Its ``writeOnly`` properties.
        template_names: Its properties that hold expressions.
    """

    plugin: LoadedPlugin
    schema: Mapping[str, Any]
    model: type[BaseModel] | None
    secret_names: frozenset[str]
    template_names: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Loaded(Configured, Generic[CapabilityT]):
    """A loaded capability."""

    key: str
    capability: CapabilityT


@dataclass(frozen=True, kw_only=True)
class LoadedAction(Loaded[ActionCapability]):
    """An action that can be invoked.

    Attributes:
        execute: The function, or the method of the one instance of its class.
        resume: What carries a `Pending` on; None when the action has nothing for it.
        dispose: Of a class that has it.
    """

    execute: Callable[[ActionCall[Any]], Any]
    resume: Callable[[ActionCall[Any], Any], Any] | None = None
    dispose: Callable[[], Any] | None = None


LoadedInbound = Loaded[InboundCapability]
LoadedScheduled = Loaded[ScheduledCapability]
LoadedResident = Loaded[ResidentCapability]


@dataclass(frozen=True, kw_only=True)
class LoadedProvider(Configured):
    """A provider that can be made."""

    declaration: ProviderDeclaration


Key = tuple[str, str]
"""Plugin and key of a capability, or plugin and id of a provider."""


@dataclass(frozen=True, kw_only=True)
class Registry:
    """An immutable snapshot; a reload builds another one."""

    plugins: Mapping[str, LoadedPlugin]
    actions: Mapping[Key, LoadedAction]
    inbound_triggers: Mapping[Key, LoadedInbound]
    scheduled_triggers: Mapping[Key, LoadedScheduled]
    resident_triggers: Mapping[Key, LoadedResident]
    providers: Mapping[Key, LoadedProvider]

    @classmethod
    def load(cls, source: PluginSource, granted_scopes: frozenset[str]) -> "Registry":
        """Import one plugin whose contract was checked.

        Raises:
            LoadError: Its package cannot be imported.
            ContractError: What it binds breaks the contract.
        """
        return cls.of(getattr(load_package(source), "plugin", None), source, granted_scopes)

    @classmethod
    def of(cls, bound: Plugin | None, source: PluginSource, granted_scopes: frozenset[str]) -> "Registry":
        """What a plugin's package bound.

        Raises:
            ContractError: It breaks the contract.
        """
        contract_of(bound, scopes=source.scopes)
        assert bound is not None  # noqa: S101 - the contract says so
        plugin = LoadedPlugin(
            name=source.name,
            version=source.version,
            code_hash=source.code_hash,
            granted_scopes=granted_scopes & frozenset(source.scopes),
            loop=PluginLoop(source.name),
        )

        def loaded(capabilities: Iterable[CapabilityT]) -> dict[Key, Loaded[CapabilityT]]:
            return {
                (source.name, capability.key): Loaded(
                    key=capability.key, capability=capability, **_configured(plugin, capability.config_schema)
                )
                for capability in capabilities
            }

        return cls(
            plugins={source.name: plugin},
            actions={(source.name, action.key): _action(plugin, action) for action in bound.actions},
            inbound_triggers=loaded(bound.inbound_triggers),
            scheduled_triggers=loaded(bound.scheduled_triggers),
            resident_triggers=loaded(bound.resident_triggers),
            providers={
                (source.name, provider.id): LoadedProvider(
                    declaration=provider, **_configured(plugin, provider.config_schema)
                )
                for provider in bound.providers
            },
        )

    @classmethod
    def union(cls, registries: Iterable["Registry"]) -> "Registry":
        """One snapshot of several plugins."""
        parts = list(registries)
        return cls(
            plugins=_merged(part.plugins for part in parts),
            actions=_merged(part.actions for part in parts),
            inbound_triggers=_merged(part.inbound_triggers for part in parts),
            scheduled_triggers=_merged(part.scheduled_triggers for part in parts),
            resident_triggers=_merged(part.resident_triggers for part in parts),
            providers=_merged(part.providers for part in parts),
        )

    def close(self) -> None:
        """Stop the plugins' loops."""
        for plugin in self.plugins.values():
            plugin.loop.close()


KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


def _merged(parts: Iterable[Mapping[KeyT, ValueT]]) -> Mapping[KeyT, ValueT]:
    return MappingProxyType({key: value for part in parts for key, value in part.items()})


def _action(plugin: LoadedPlugin, capability: ActionCapability) -> LoadedAction:
    common = {"key": capability.key, "capability": capability, **_configured(plugin, capability.config_schema)}
    if not isinstance(capability.action, type):
        return LoadedAction(execute=capability.action, resume=capability.resume, **common)
    try:
        instance: Any = capability.action()
    except Exception as error:
        raise ContractError(f"action {capability.key!r}: making its class raised {error!r}") from error
    return LoadedAction(
        execute=instance.execute,
        resume=getattr(instance, "resume", None),
        dispose=getattr(instance, "dispose", None),
        **common,
    )


def _configured(plugin: LoadedPlugin, config_schema: ConfigSchema) -> dict[str, Any]:
    schema = schema_of(config_schema)
    return {
        "plugin": plugin,
        "schema": schema,
        "model": config_schema if isinstance(config_schema, type) else None,
        "secret_names": secret_names(schema),
        "template_names": template_names(schema),
    }

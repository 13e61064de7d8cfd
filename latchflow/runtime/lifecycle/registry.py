"""The capabilities this process can run: an immutable snapshot, keyed by plugin, kind and key."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from pydantic import BaseModel

from latchflow.config_schemas import secret_names, template_names
from latchflow.runtime.contract import ContractError, contract_of, schema_of
from latchflow.runtime.isolation.loops import PluginLoop
from latchflow.runtime.lifecycle.usage import PluginStats, Uses
from latchflow.runtime.loader.copies import Copies, Copy
from latchflow.runtime.loader.discovery import PluginSource
from latchflow.runtime.loader.loading import load_package
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
ConfiguredT = TypeVar("ConfiguredT", bound="Configured")
KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


@dataclass(frozen=True, kw_only=True)
class LoadedPlugin:
    """One version of a plugin in this process, with the loop its code runs on.

    Attributes:
        declared_scopes: Those of its ``plugin.toml``; `granted_scopes` are among them.
        disposers: What the plugin wants called once, when this version is put away.
        uses: The calls in flight. Entered by whoever took a capability from a registry, before the next ``await``.
        copy: The copy of the code that it was loaded from; None when it came from nowhere on disk.
    """

    name: str
    version: str
    code_hash: str
    granted_scopes: frozenset[str]
    loop: PluginLoop
    declared_scopes: frozenset[str] = frozenset()
    disposers: Sequence[Callable[[], Any]] = ()
    uses: Uses = field(default_factory=Uses)
    stats: PluginStats = field(default_factory=PluginStats)
    copy: Copy | None = None


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
    def load(cls, source: PluginSource, granted_scopes: frozenset[str], copies: Copies | None = None) -> "Registry":
        """Import one plugin whose contract was checked, from the copy of its code. Blocks.

        Raises:
            CopyError: Its folder does not hold the code with this hash any more.
            LoadError: Its package cannot be imported.
            ContractError: What it binds breaks the contract.
        """
        copy = (copies or Copies.at(None)).take(source)
        try:
            return cls.of(getattr(load_package(source, copy.path), "plugin", None), source, granted_scopes, copy)
        except BaseException:
            copy.release()
            raise

    @classmethod
    def of(
        cls, bound: Plugin | None, source: PluginSource, granted_scopes: frozenset[str], copy: Copy | None = None
    ) -> "Registry":
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
            declared_scopes=frozenset(source.scopes),
            disposers=tuple(bound.disposers),
            copy=copy,
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

    @property
    def capability_names(self) -> set[str]:
        """Every capability as ``KIND/key``."""
        triggers = (*self.inbound_triggers, *self.scheduled_triggers, *self.resident_triggers)
        return {f"ACTION/{key}" for _, key in self.actions} | {f"TRIGGER/{key}" for _, key in triggers}

    def only(self, name: str) -> "Registry":
        """What one plugin brings."""

        def of_it(found: Mapping[Key, ValueT]) -> Mapping[Key, ValueT]:
            return MappingProxyType({key: value for key, value in found.items() if key[0] == name})

        return Registry(
            plugins={name: self.plugins[name]},
            actions=of_it(self.actions),
            inbound_triggers=of_it(self.inbound_triggers),
            scheduled_triggers=of_it(self.scheduled_triggers),
            resident_triggers=of_it(self.resident_triggers),
            providers=of_it(self.providers),
        )

    def granting(self, scopes: frozenset[str]) -> "Registry":
        """The same capabilities of one plugin, on the same loop, with other scopes granted."""
        (old,) = self.plugins.values()
        plugin = replace(old, granted_scopes=scopes & old.declared_scopes)

        def moved(found: Mapping[Key, ConfiguredT]) -> Mapping[Key, ConfiguredT]:
            return MappingProxyType({key: replace(value, plugin=plugin) for key, value in found.items()})

        return Registry(
            plugins={plugin.name: plugin},
            actions=moved(self.actions),
            inbound_triggers=moved(self.inbound_triggers),
            scheduled_triggers=moved(self.scheduled_triggers),
            resident_triggers=moved(self.resident_triggers),
            providers=moved(self.providers),
        )

    def close(self) -> None:
        """Stop the plugins' loops."""
        for plugin in self.plugins.values():
            plugin.loop.close()


def _merged(parts: Iterable[Mapping[KeyT, ValueT]]) -> Mapping[KeyT, ValueT]:
    return MappingProxyType({key: value for part in parts for key, value in part.items()})


def _action(plugin: LoadedPlugin, capability: ActionCapability) -> LoadedAction:
    common = {"key": capability.key, "capability": capability, **_configured(plugin, capability.config_schema)}
    if not isinstance(capability.action, type):
        return LoadedAction(execute=capability.action, resume=capability.resume, **common)
    try:
        instance: Any = capability.action()
    except BaseException as error:  # it is the plugin's code
        raise ContractError(
            f"action {capability.key!r}: making its class raised {type(error).__name__}; do no work in __init__"
        ) from error
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

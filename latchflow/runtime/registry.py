"""The capabilities this process can run: an immutable snapshot, keyed by plugin, kind and key."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from latchflow.config_schemas import secret_names, template_names
from latchflow.runtime.contract import contract_of, schema_of
from latchflow.runtime.discovery import PluginSource
from latchflow.runtime.loading import load_package
from latchflow.runtime.loops import PluginLoop
from latchflow.sdk import ActionCapability, InboundCapability, Plugin


@dataclass(frozen=True, kw_only=True)
class LoadedPlugin:
    """One version of a plugin in this process, with the loop its code runs on."""

    name: str
    version: str
    code_hash: str
    granted_scopes: frozenset[str]
    loop: PluginLoop


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What every loaded capability has.

    Attributes:
        schema: The JSON Schema of its config.
        model: The Pydantic model of its config; None when the schema is a ``dict``.
        secret_names: Its ``writeOnly`` properties.
        template_names: Its properties that hold expressions.
    """

    plugin: LoadedPlugin
    key: str
    schema: Mapping[str, Any]
    model: type[BaseModel] | None
    secret_names: frozenset[str]
    template_names: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class LoadedAction(Loaded):
    """An action that can be invoked."""

    capability: ActionCapability


@dataclass(frozen=True, kw_only=True)
class LoadedInbound(Loaded):
    """An inbound trigger that can read requests."""

    capability: InboundCapability


@dataclass(frozen=True)
class Registry:
    """An immutable snapshot; a reload builds another one."""

    plugins: Mapping[str, LoadedPlugin]
    actions: Mapping[tuple[str, str], LoadedAction]
    inbound_triggers: Mapping[tuple[str, str], LoadedInbound]

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
        actions = {
            (source.name, action.key): LoadedAction(capability=action, **_common(plugin, action))
            for action in bound.actions
        }
        inbound_triggers = {
            (source.name, trigger.key): LoadedInbound(capability=trigger, **_common(plugin, trigger))
            for trigger in bound.inbound_triggers
        }
        return cls({source.name: plugin}, actions, inbound_triggers)

    @classmethod
    def union(cls, registries: Iterable["Registry"]) -> "Registry":
        """One snapshot of several plugins."""
        plugins: dict[str, LoadedPlugin] = {}
        actions: dict[tuple[str, str], LoadedAction] = {}
        inbound_triggers: dict[tuple[str, str], LoadedInbound] = {}
        for registry in registries:
            plugins |= registry.plugins
            actions |= registry.actions
            inbound_triggers |= registry.inbound_triggers
        return cls(MappingProxyType(plugins), MappingProxyType(actions), MappingProxyType(inbound_triggers))

    def close(self) -> None:
        """Stop the plugins' loops."""
        for plugin in self.plugins.values():
            plugin.loop.close()


def _common(plugin: LoadedPlugin, capability: ActionCapability | InboundCapability) -> dict[str, Any]:
    schema = schema_of(capability.config_schema)
    is_model = isinstance(capability.config_schema, type)
    return {
        "plugin": plugin,
        "key": capability.key,
        "schema": schema,
        "model": capability.config_schema if is_model else None,
        "secret_names": secret_names(schema),
        "template_names": template_names(schema),
    }

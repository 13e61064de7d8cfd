"""Checking what a plugin's package bound."""

from collections.abc import Sequence

from latchflow.names import normal_form
from latchflow.runtime.contract.actions import action_contract
from latchflow.runtime.contract.checks import check_arity
from latchflow.runtime.contract.model import Contract, ContractError
from latchflow.runtime.contract.providers import provider_contract
from latchflow.runtime.contract.triggers import inbound_contract, resident_contract, scheduled_contract
from latchflow.sdk import Plugin


def contract_of(plugin: object, *, scopes: Sequence[str]) -> Contract:
    """Check what a plugin's package bound as ``plugin``.

    Args:
        plugin: The object found there.
        scopes: What its ``plugin.toml`` declares.

    Raises:
        ContractError: The first fault.
    """
    if not isinstance(plugin, Plugin):
        raise ContractError("__init__.py must bind `plugin` to a latchflow.sdk.Plugin")
    capabilities = [action_contract(capability, scopes) for capability in plugin.actions]
    capabilities += [inbound_contract(capability) for capability in plugin.inbound_triggers]
    capabilities += [scheduled_contract(capability) for capability in plugin.scheduled_triggers]
    capabilities += [resident_contract(capability) for capability in plugin.resident_triggers]
    providers = [provider_contract(declaration) for declaration in plugin.providers]
    if not capabilities and not providers:
        raise ContractError("it contributes nothing; register an action, a trigger or a provider on `plugin`")
    _check_unique([(f"{capability.kind} {capability.key!r}", "key") for capability in capabilities])
    _check_unique([(f"provider {normal_form(provider.id)!r}", "id") for provider in providers])
    for function in plugin.disposers:
        check_arity("on_dispose", function, 0, "()")
    return Contract(capabilities=tuple(capabilities), providers=tuple(providers))


def _check_unique(found: Sequence[tuple[str, str]]) -> None:
    seen: set[str] = set()
    for name, part in found:
        if name in seen:
            raise ContractError(f"{name} is registered twice; give each its own {part}")
        seen.add(name)

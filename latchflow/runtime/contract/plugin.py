"""Checking what a plugin's package bound."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from latchflow.names import normal_form
from latchflow.runtime.contract.actions import action_contract
from latchflow.runtime.contract.checks import check_arity
from latchflow.runtime.contract.model import Contract, ContractError
from latchflow.runtime.contract.providers import provider_contract
from latchflow.runtime.contract.triggers import inbound_contract, resident_contract, scheduled_contract
from latchflow.sdk import Plugin

ContractT = TypeVar("ContractT")


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
    capabilities = [_placed(one.action, partial(action_contract, one, scopes)) for one in plugin.actions]
    capabilities += [_placed(one.function, partial(inbound_contract, one)) for one in plugin.inbound_triggers]
    capabilities += [_placed(one.function, partial(scheduled_contract, one)) for one in plugin.scheduled_triggers]
    capabilities += [_placed(one.trigger, partial(resident_contract, one)) for one in plugin.resident_triggers]
    providers = [_placed(one.provider, partial(provider_contract, one)) for one in plugin.providers]
    if not capabilities and not providers:
        raise ContractError("it contributes nothing; register an action, a trigger or a provider on `plugin`")
    _check_unique([(f"{capability.kind} {capability.key!r}", "key") for capability in capabilities])
    _check_unique([(f"provider {normal_form(provider.id)!r}", "id") for provider in providers])
    for function in plugin.disposers:
        check_arity("on_dispose", function, 0, "()")
    return Contract(capabilities=tuple(capabilities), providers=tuple(providers))


def _placed(registered: object, check: Callable[[], ContractT]) -> ContractT:
    """The contract; a fault gets the place of the function or class it is about."""
    try:
        return check()
    except ContractError as error:
        members = vars(registered).values() if isinstance(registered, type) else [registered]
        codes = [code for code in (getattr(member, "__code__", None) for member in members) if code is not None]
        if ".py:" in str(error) or not codes:
            raise
        raise ContractError(f"{error} ({codes[0].co_filename}:{codes[0].co_firstlineno})") from None


def _check_unique(found: Sequence[tuple[str, str]]) -> None:
    seen: set[str] = set()
    for name, part in found:
        if name in seen:
            raise ContractError(f"{name} is registered twice; give each its own {part}")
        seen.add(name)

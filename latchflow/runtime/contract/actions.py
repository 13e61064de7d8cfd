"""What an action must be."""

from collections.abc import Sequence

from latchflow.runtime.contract.checks import (
    check_answers,
    check_arity,
    check_common,
    check_method,
    check_migration,
    checked_schema,
)
from latchflow.runtime.contract.model import CapabilityContract, ContractError
from latchflow.sdk import ActionCapability

_LONGEST_STALL_SECONDS = 115


def action_contract(capability: ActionCapability, scopes: Sequence[str]) -> CapabilityContract:
    """Check one action; `scopes` are those that ``plugin.toml`` declares. Raises ContractError."""
    where = f"action {capability.key!r}"
    check_common(where, capability.key, capability.display_name)
    if isinstance(capability.action, type):
        _check_action_class(where, capability)
    else:
        check_arity(where, capability.action, 1, "(call)")
        check_answers(where, capability.action)
        if capability.resume is not None:
            check_arity(f"{where}: resume", capability.resume, 2, "(call, state)")
            check_answers(f"{where}: resume", capability.resume)
    if not all(isinstance(scope, str) for scope in capability.scopes):
        raise ContractError(f'{where}: scopes: write a list like ["email:send"]')
    undeclared = [scope for scope in capability.scopes if scope not in scopes]
    if undeclared:
        raise ContractError(f"{where}: the scope {undeclared[0]!r} is missing in plugin.toml; add it to `scopes` there")
    stall = capability.stall_timeout_seconds
    if stall is not None and not (isinstance(stall, int | float) and 1 <= stall <= _LONGEST_STALL_SECONDS):
        raise ContractError(f"{where}: stall_timeout_seconds is {stall!r}; choose 1 to {_LONGEST_STALL_SECONDS}")
    check_migration(where, capability)
    return CapabilityContract(
        kind="ACTION",
        key=capability.key,
        display_name=capability.display_name,
        config_schema=checked_schema(where, capability.config_schema),
        shape="action",
        scopes=tuple(capability.scopes),
        is_inline=bool(capability.is_inline),
        stall_timeout_seconds=stall,
    )


def _check_action_class(where: str, capability: ActionCapability) -> None:
    action = capability.action
    check_arity(f"{where}: the class", action, 0, "()")
    if getattr(action, "execute", None) is None:
        raise ContractError(f"{where}: the class has no method execute(self, call)")
    check_method(where, action, "execute", 1, "(self, call)")
    check_method(where, action, "resume", 2, "(self, call, state)")
    check_method(where, action, "dispose", 0, "(self)")
    for name in ("execute", "resume"):
        check_answers(f"{where}: {name}", getattr(action, name, None))
    if capability.resume is not None:
        raise ContractError(f"{where}: a class brings its own method resume; leave `resume=` out")

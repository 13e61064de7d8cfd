"""What a trigger of each shape must be."""

import inspect
from typing import Literal

from latchflow.runtime.contract.checks import (
    check_answers,
    check_arity,
    check_common,
    check_method,
    check_migration,
    checked_schema,
)
from latchflow.runtime.contract.model import CapabilityContract, ContractError
from latchflow.sdk import InboundCapability, ResidentCapability, ResidentTrigger, ScheduledCapability
from latchflow.sdk.capabilities import Capability


def inbound_contract(capability: InboundCapability) -> CapabilityContract:
    """Check an inbound trigger. Raises ContractError."""
    return _trigger(capability, capability.function, 2, "(request, config)", shape="inbound")


def scheduled_contract(capability: ScheduledCapability) -> CapabilityContract:
    """Check a scheduled trigger. Raises ContractError."""
    return _trigger(capability, capability.function, 1, "(config)", shape="scheduled")


def resident_contract(capability: ResidentCapability) -> CapabilityContract:
    """Check a resident trigger. Raises ContractError."""
    where = f"trigger {capability.key!r}"
    trigger = capability.trigger
    if not (isinstance(trigger, type) and issubclass(trigger, ResidentTrigger)):
        raise ContractError(f"{where}: {trigger!r} is no subclass of latchflow.sdk.ResidentTrigger")
    for method in ("start", "stop"):
        if getattr(trigger, method) is getattr(ResidentTrigger, method):
            raise ContractError(f"{where}: the class has no method {method}(self)")
        if not inspect.iscoroutinefunction(getattr(trigger, method)):
            raise ContractError(f"{where}: {method} must be `async def`")
        check_method(where, trigger, method, 0, "(self)")
    check_method(where, trigger, "on_config_change", 1, "(self, setup)")
    check_method(where, trigger, "dispose", 0, "(self)")
    return _trigger(capability, trigger, 1, "(setup)", shape="resident")


def _trigger(
    capability: Capability,
    function: object,
    count: int,
    takes: str,
    *,
    shape: Literal["inbound", "scheduled", "resident"],
) -> CapabilityContract:
    where = f"trigger {capability.key!r}"
    check_common(where, capability.key, capability.display_name)
    check_arity(where, function, count, takes)
    check_answers(where, function)
    check_migration(where, capability)
    return CapabilityContract(
        kind="TRIGGER",
        key=capability.key,
        display_name=capability.display_name,
        config_schema=checked_schema(where, capability.config_schema),
        shape=shape,
    )

"""What a plugin contributes, as plain data."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class ContractError(Exception):
    """A plugin breaks the contract; the message names the capability, the field and the way to mend it."""


class CapabilityContract(BaseModel):
    """One capability as data."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["TRIGGER", "ACTION"]
    key: str
    display_name: str
    config_schema: dict[str, Any]
    shape: Literal["action", "inbound", "scheduled", "resident"]
    scopes: tuple[str, ...] = ()
    is_inline: bool = False
    stall_timeout_seconds: float | None = None


class ProviderContract(BaseModel):
    """One provider as data."""

    model_config = ConfigDict(frozen=True)

    kind: Literal["email", "storage"]
    id: str
    display_name: str
    config_schema: dict[str, Any]
    defaults: dict[str, str]


class Contract(BaseModel):
    """Everything one version of a plugin contributes."""

    model_config = ConfigDict(frozen=True)

    capabilities: tuple[CapabilityContract, ...] = ()
    providers: tuple[ProviderContract, ...] = ()

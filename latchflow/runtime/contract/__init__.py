"""What a plugin contributes: checked when it is enabled, stored, and all that the API validates by."""

from latchflow.runtime.contract.checks import schema_of
from latchflow.runtime.contract.model import CapabilityContract, Contract, ContractError, ProviderContract
from latchflow.runtime.contract.plugin import contract_of

__all__ = ["CapabilityContract", "Contract", "ContractError", "ProviderContract", "contract_of", "schema_of"]

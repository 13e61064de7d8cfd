"""What a provider gets when core makes it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from latchflow.sdk.http import HttpService
from latchflow.sdk.logger import Logger
from latchflow.sdk.network import Network

ConfigT = TypeVar("ConfigT")


@dataclass(frozen=True, kw_only=True)
class ProviderSetup(Generic[ConfigT]):
    """What core hands to a provider when it makes it; a changed config makes another one.

    Attributes:
        config: Without its secrets: the Pydantic model, or a read-only mapping when the schema is a ``dict``.
        secrets: The values of the ``writeOnly`` properties.
        http: HTTP through the egress guard.
        network: What the egress guard says about other connections.
    """

    config: ConfigT
    secrets: Mapping[str, Any] = field(repr=False)
    logger: Logger
    http: HttpService
    network: Network

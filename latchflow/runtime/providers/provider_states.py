"""What people may know of the providers: configured, active, or why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from latchflow.errors import SealError
from latchflow.runtime.providers.provider_configs import ProviderConfig, effective, ranked
from latchflow.runtime.providers.system_config import SystemConfig
from latchflow.store import system_config
from latchflow.store.database import Connection


@dataclass(frozen=True, kw_only=True)
class ProviderState:
    """How it stands with one provider.

    Attributes:
        is_configured: Its config can be used.
        is_active: It is the one of its kind that is used.
        problem: Why its config cannot be used, without the config's values.
    """

    is_configured: bool
    is_active: bool
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class _Listed:
    plugin_name: str
    id: str
    kind: str
    is_usable: bool
    config: ProviderConfig


async def provider_states(connection: Connection, config: SystemConfig) -> Mapping[tuple[str, str], ProviderState]:
    """Every provider's state, by plugin and id; the environment is that of this process.

    A config that cannot be opened is the problem of that provider alone.
    """
    known = await system_config.providers(connection)
    stored, sealed = await _opened(connection, config, [one.key for one in known])
    listed = [
        _Listed(
            plugin_name=one.plugin,
            id=one.id,
            kind=one.kind,
            is_usable=one.is_usable,
            config=sealed.get(one.key) or effective(one.config_schema, one.defaults, stored.get(one.key)),
        )
        for one in known
    ]
    active = {
        kind: next(iter(ranked(one for one in listed if one.kind == kind and one.is_usable)), None)
        for kind in {one.kind for one in listed}
    }
    return {
        (one.plugin_name, one.id): ProviderState(
            is_configured=one.config.is_configured, is_active=active[one.kind] is one, problem=one.config.problem
        )
        for one in listed
    }


async def _opened(
    connection: Connection, config: SystemConfig, keys: Sequence[str]
) -> tuple[Mapping[str, Any], Mapping[str, ProviderConfig]]:
    """What is stored, and what takes the place of what cannot be opened."""
    try:
        return await config.stored_on(connection, keys), {}
    except SealError:
        pass  # one of them; the others are as good as ever
    stored: dict[str, Any] = {}
    sealed: dict[str, ProviderConfig] = {}
    for key in keys:
        try:
            stored |= await config.stored_on(connection, [key])
        except SealError as error:
            problem = f"What the system config has for it cannot be opened: {error.message}"
            sealed[key] = ProviderConfig(values={}, sources={}, is_stored=True, problem=problem)
    return stored, sealed

"""What people may know of the providers: configured, active, or why not."""

from collections.abc import Mapping
from dataclasses import dataclass

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

    Raises:
        SealError: A config cannot be opened.
    """
    known = await system_config.providers(connection)
    stored = await config.stored_on(connection, [one.key for one in known])
    listed = [
        _Listed(
            plugin_name=one.plugin,
            id=one.id,
            kind=one.kind,
            is_usable=one.is_usable,
            config=effective(one.config_schema, one.defaults, stored.get(one.key)),
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

"""From folders to a registry: find plugins, check the new ones, record the verdicts, load what is enabled."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog

from latchflow.runtime.contract import Contract, ContractError
from latchflow.runtime.discovery import PluginSource, discover, plugin_roots
from latchflow.runtime.loading import LoadError
from latchflow.runtime.probe import check
from latchflow.runtime.registry import Registry
from latchflow.store import plugin_catalog
from latchflow.store.database import Connection, Database
from latchflow.store.plugin_catalog import CatalogCapability, CatalogPlugin, CatalogProvider, Status

_PRODUCT_PREFIX = "@latchflow/"

log = structlog.get_logger(__name__)


async def install(
    database: Database, home: Path, *, plugins_path: str, auto_enable: bool, only: str | None = None
) -> Registry:
    """Bring the catalog up to date with the folders and load every enabled plugin.

    Safe in several processes at once: the first checks a new version, the others find its verdict. A plugin that
    fails is recorded as FAILED with the reason and harms no other.

    Args:
        database: Where the catalog is.
        home: The application root; the plugins of the product in its ``plugins/`` enable themselves.
        plugins_path: More folders (``PLUGINS_PATH``).
        auto_enable: Enable all that is found.
        only: Load no plugin but the one of this name, and those that bring providers, which services need.

    Raises:
        UnavailableError: The database is away.
    """
    sources = await asyncio.to_thread(discover, plugin_roots(home, plugins_path))
    trusted = {source.name for source in sources if auto_enable or _is_built_in(source, home)}
    async with database.transaction() as connection:
        await plugin_catalog.lock(connection)
        known = await plugin_catalog.load(connection)
        await plugin_catalog.fail_missing(connection, known.keys() - {source.name for source in sources})
        enabled = []
        verdicts = await asyncio.gather(
            *(_verdict(source, known.get(source.name), source.name in trusted) for source in sources)
        )
        for source, (status, error, contract) in zip(sources, verdicts, strict=True):
            granted = _granted(source, known.get(source.name), source.name in trusted)
            await _save(connection, source, status, error, granted, contract)
            if status == "ENABLED":
                enabled.append((source, frozenset(granted)))
            if error:
                log.error("plugin failed", plugin=source.name, error=error)
        if only is not None:
            wanted = {only, *await plugin_catalog.names_with_providers(connection)}
            enabled = [(source, granted) for source, granted in enabled if source.name in wanted]
    return _load_each(enabled)


def _load_each(enabled: Sequence[tuple[PluginSource, frozenset[str]]]) -> Registry:
    loaded = []
    for source, granted in enabled:
        try:
            loaded.append(Registry.load(source, granted))
        except (LoadError, ContractError) as error:
            log.error("plugin cannot be loaded in this process", plugin=source.name, error=str(error))
    return Registry.union(loaded)


async def _verdict(
    source: PluginSource, known: CatalogPlugin | None, is_trusted: bool
) -> tuple[Status, str | None, Contract | None]:
    if source.error:
        return "FAILED", source.error, None
    if known is not None and known.status == "DISABLED":
        return "DISABLED", None, None
    is_wanted = is_trusted or (known is not None and known.status in ("ENABLED", "FAILED"))
    if not is_wanted:
        return "DISCOVERED", None, None
    if known is not None and known.status == "ENABLED" and known.code_hash == source.code_hash:
        return "ENABLED", None, None
    try:
        return "ENABLED", None, await check(source)
    except ContractError as error:
        return "FAILED", str(error), None


def _granted(source: PluginSource, known: CatalogPlugin | None, is_trusted: bool) -> Sequence[str]:
    if is_trusted:
        return source.scopes
    return known.granted_scopes if known is not None else ()


def _is_built_in(source: PluginSource, home: Path) -> bool:
    return source.name.startswith(_PRODUCT_PREFIX) and source.folder.parent == home / "plugins"


async def _save(
    connection: Connection,
    source: PluginSource,
    status: Status,
    error: str | None,
    granted: Sequence[str],
    contract: Contract | None,
) -> None:
    await plugin_catalog.save(
        connection,
        name=source.name,
        display_name=source.display_name,
        version=source.version,
        status=status,
        error=error,
        scopes=source.scopes,
        granted_scopes=granted,
        code_hash=source.code_hash,
    )
    if contract is not None:
        capabilities = [CatalogCapability(**capability.model_dump()) for capability in contract.capabilities]
        await plugin_catalog.save_capabilities(connection, source.name, capabilities)
        providers = [CatalogProvider(**provider.model_dump()) for provider in contract.providers]
        await plugin_catalog.save_providers(connection, source.name, providers)

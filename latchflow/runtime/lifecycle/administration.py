"""What admins do with plugins: enable, disable, grant, and look at a folder again."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from latchflow.errors import ConflictError, FieldError, InvalidInputError, NotFoundError
from latchflow.names import plugin_id
from latchflow.runtime.contract import Contract, ContractError
from latchflow.runtime.lifecycle.installing import save_entry
from latchflow.runtime.lifecycle.running import RunningPlugins
from latchflow.runtime.loader.discovery import PluginSource
from latchflow.store import plugin_catalog
from latchflow.store.admin_audit import Change, record_change
from latchflow.store.database import Connection, Database
from latchflow.store.plugin_catalog import CatalogPlugin

CORE = "@latchflow/core"


class PluginAdministration:
    """Carries out the changes of admins; the process that answers has made them its own when they return."""

    def __init__(self, database: Database, plugins: RunningPlugins, *, is_reloading: bool) -> None:
        self._database = database
        self._plugins = plugins
        self._is_reloading = is_reloading

    async def change(
        self, identifier: UUID, *, is_enabled: bool | None, granted_scopes: Sequence[str] | None, actor: str
    ) -> None:
        """Enable or disable a plugin, and grant it scopes.

        Args:
            identifier: Of the plugin.
            is_enabled: None leaves it as it is.
            granted_scopes: The scopes it has from now on; None leaves them as they are.
            actor: Who changes it.

        Raises:
            NotFoundError: There is none with this id.
            ConflictError: It cannot be disabled, or it cannot be enabled: the message quotes the fault.
            InvalidInputError: A scope that the plugin does not declare.
            UnavailableError: The database is away.
        """
        known = await self._known(identifier)
        source: PluginSource | None = None
        contract: Contract | None = None
        if is_enabled is False and known.name == CORE:
            raise ConflictError(f"{CORE} cannot be disabled: every deployment needs it.")
        if is_enabled and known.status != "ENABLED":
            source = await self._plugins.installer.find(known.name)
            if source is None:
                raise ConflictError(f"The API finds no folder of the plugin {known.name!r}. Put it back first.")
            _check_scopes(source.scopes, granted_scopes)
            contract = await self._checked(source, actor)
        else:
            _check_scopes(known.scopes, granted_scopes)
        async with self._database.transaction() as connection:
            await plugin_catalog.lock(connection)
            now = await plugin_catalog.get(connection, known.name) or known
            changed, fault = now, None
            if source is not None and contract is not None:
                verdict = await self._plugins.installer.beside_others(connection, source, contract)
                if isinstance(verdict, ContractError):
                    fault, contract = verdict, None
                    changed = _failed(now, source, verdict)
                else:
                    changed = _enabled(now, source)
            elif is_enabled is False:
                changed = replace(now, status="DISABLED", error=None, is_wanted=False)
            if granted_scopes is not None and fault is None:
                changed = replace(changed, granted_scopes=sorted(set(granted_scopes)))
            await save_entry(connection, changed, contract)
            await _audit(connection, now, changed, actor)
        if fault is not None:
            raise ConflictError(f"The plugin {known.name!r} cannot be enabled: {fault}")
        await self._plugins.follower.follow()

    async def reload(self, identifier: UUID, *, actor: str) -> None:
        """Read a plugin's folder again and check it now.

        Raises:
            NotFoundError: There is none with this id.
            ConflictError: The API does not find its folder, or its code has changed, and takes over only with a
                restart.
            UnavailableError: The database is away.
        """
        known = await self._known(identifier)
        source = await self._plugins.installer.find(known.name)
        if source is None:
            raise ConflictError(f"The API finds no folder of the plugin {known.name!r}. Put it back first.")
        is_newer = source.error is None and source.code_hash != known.code_hash
        if is_newer and known.status == "ENABLED" and not self._is_reloading:
            raise ConflictError(
                f"The code of {known.name!r} has changed. A new version comes into force with a restart of API and "
                "workers, or at once with PLUGIN_HOT_RELOAD=true."
            )
        await self._plugins.installer.refresh(only=known.name, even_if_running=self._is_reloading)
        async with self._database.transaction() as connection:
            now = await plugin_catalog.get(connection, known.name) or known
            await _audit(connection, known, now, actor, operation="reload")
        await self._plugins.follower.follow()

    async def _known(self, identifier: UUID) -> CatalogPlugin:
        async with self._database.connection() as connection:
            catalog = await plugin_catalog.load(connection)
        for plugin in catalog.values():
            if plugin_id(plugin.name) == identifier:
                return plugin
        raise NotFoundError(f"There is no plugin {identifier}.")

    async def _checked(self, source: PluginSource, actor: str) -> Contract:
        """The contract; a plugin that breaks it is recorded as FAILED, or stays DISABLED with the error beside it."""
        try:
            if source.error:
                raise ContractError(source.error)
            return await self._plugins.installer.check(source)
        except ContractError as error:
            async with self._database.transaction() as connection:
                await plugin_catalog.lock(connection)
                known = await plugin_catalog.get(connection, source.name)
                if known is not None and known.status != "ENABLED":
                    failed = _failed(known, source, error)
                    await save_entry(connection, failed, None)
                    await _audit(connection, known, failed, actor)
            raise ConflictError(f"The plugin {source.name!r} cannot be enabled: {error}") from None


def _failed(known: CatalogPlugin, source: PluginSource, error: ContractError) -> CatalogPlugin:
    if known.status in ("DISABLED", "ENABLED"):
        return replace(known, error=str(error))
    return replace(known, status="FAILED", error=str(error), code_hash=source.code_hash)


def _enabled(known: CatalogPlugin, source: PluginSource) -> CatalogPlugin:
    return replace(
        known,
        display_name=source.display_name,
        version=source.version,
        status="ENABLED",
        error=None,
        scopes=source.scopes,
        granted_scopes=[scope for scope in known.granted_scopes if scope in source.scopes],
        code_hash=source.code_hash,
        is_wanted=True,
    )


def _check_scopes(declared: Sequence[str], granted: Sequence[str] | None) -> None:
    faults = [
        FieldError(
            pointer=f"/grantedScopes/{position}",
            message=f"The plugin declares {', '.join(declared) or 'no scopes'} in its plugin.toml, and only those can "
            "be granted.",
        )
        for position, scope in enumerate(granted or ())
        if scope not in declared
    ]
    if faults:
        raise InvalidInputError("A scope is granted that the plugin does not declare.", faults)


async def _audit(
    connection: Connection, before: CatalogPlugin, after: CatalogPlugin, actor: str, *, operation: str = "update"
) -> None:
    fields = [
        name
        for name in ("status", "granted_scopes", "version", "code_hash", "error")
        if getattr(before, name) != getattr(after, name)
    ]
    if fields or operation != "update":
        change = Change(object="plugin", id=plugin_id(after.name), name=after.name, operation=operation, fields=fields)
        await record_change(connection, change, actor=actor, plugin_name=after.name)

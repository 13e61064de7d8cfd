"""From folders to the catalog: find plugins, check the new ones beside everything else, record the verdicts."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from latchflow.errors import UnavailableError
from latchflow.masking import readable
from latchflow.runtime.contract import Contract, ContractError
from latchflow.runtime.lifecycle.verdicts import Sighting, entry_after
from latchflow.runtime.loader.copies import Copies
from latchflow.runtime.loader.discovery import PluginSource, discover, plugin_roots, read_source
from latchflow.runtime.loader.probe import Checks, Verdict, check
from latchflow.runtime.tasks import end_task
from latchflow.store import plugin_catalog
from latchflow.store.database import Connection, Database
from latchflow.store.plugin_catalog import CatalogCapability, CatalogPlugin, CatalogProvider

_PRODUCT_PREFIX = "@latchflow/"
_SECOND_LOOK_SECONDS = 2.0
"""How long a start waits for plugins that failed before; their verdict comes later if they take longer."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class PluginFolders:
    """Where this process finds plugins.

    Attributes:
        home: The application root; the plugins of the product in its ``plugins/`` enable themselves.
        plugins_path: More folders (``PLUGINS_PATH``).
        enables_all: Every plugin found enables itself, with the scopes it declares.
        copies: Where code is copied before it is imported.
    """

    home: Path
    plugins_path: str
    enables_all: bool
    copies: Copies

    @property
    def roots(self) -> list[Path]:
        """The folders that hold plugins' folders."""
        return plugin_roots(self.home, self.plugins_path)

    def is_built_in(self, source: PluginSource) -> bool:
        """Whether a plugin is the product's own."""
        return source.name.startswith(_PRODUCT_PREFIX) and source.folder.parent == self.home / "plugins"

    def trusts(self, source: PluginSource) -> bool:
        """Whether a plugin enables itself."""
        return self.enables_all or self.is_built_in(source)


class Installer:
    """Keeps the catalog up to date with the folders of this process.

    Safe in several processes at once. Plugin code is only imported in throwaway processes, and no transaction is open
    meanwhile; a plugin that fails is recorded with the reason and harms no other.
    """

    def __init__(self, database: Database, folders: PluginFolders) -> None:
        self.folders = folders
        self._database = database
        self._late: set[asyncio.Task[None]] = set()
        self._checking: set[tuple[str, str]] = set()
        self._failed: dict[str, str] = {}
        self._sources: list[PluginSource] = []

    async def install(self, *, only: str | None = None) -> None:
        """At the start of a process: what the folders hold becomes what shall run.

        Args:
            only: The plugin that this process is for; its verdict is waited for even if the same code failed before.

        Raises:
            UnavailableError: The database is away.
        """
        sightings = await self._look()
        wanted = [sighting for sighting in sightings if sighting.needs_check]
        checks = Checks([sighting.source for sighting in wanted], copies=self.folders.copies)
        await checks.__aenter__()
        try:
            first = [i for i, one in enumerate(wanted) if one.source.name == only or not one.has_failed_before]
            await checks.wait_for(first)
            await checks.wait_for(range(len(wanted)), within_seconds=_SECOND_LOOK_SECONDS)
            late = {wanted[index].source.name for index in range(len(wanted)) if not checks.is_decided(index)}
            verdicts = {
                wanted[index].source.name: await checks.verdict(index)
                for index in range(len(wanted))
                if checks.is_decided(index)
            }
            settled = [sighting for sighting in sightings if sighting.source.name not in late]
            await self._record(settled, verdicts, keeps_running=False, names={s.source.name for s in sightings})
        except BaseException:
            await checks.__aexit__()
            raise
        task = asyncio.create_task(self._settle_late(checks, wanted, late))
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def refresh(self, *, only: str | None = None, even_if_running: bool = False) -> None:
        """While processes run: record what changed in the folders, and let a changed plugin that is good take over.

        A bad version leaves the enabled one in force and says why.

        Args:
            only: Look at this plugin alone, even where nothing changed or the same code has failed before.
            even_if_running: There is one machine only: what has gone from its folders fails, wherever it runs.

        Raises:
            UnavailableError: The database is away.
        """
        sightings = await self._look()
        names = {sighting.source.name for sighting in sightings}
        if only is not None:
            sightings = [sighting for sighting in sightings if sighting.source.name == only]
        wanted = [s for s in sightings if s.needs_check and (only is not None or not self._is_decided(s))]
        rest = [s for s in sightings if not s.needs_check]
        await self._record(rest, {}, keeps_running=True, names=names, only=only, even_if_running=even_if_running)
        checked = {(sighting.source.name, sighting.source.code_hash) for sighting in wanted}
        self._checking |= checked
        try:
            async with Checks([sighting.source for sighting in wanted], copies=self.folders.copies) as checks:
                # Each as it comes: one that hangs holds up no other.
                for decided in asyncio.as_completed([_with(s, checks.verdict(i)) for i, s in enumerate(wanted)]):
                    sighting, verdict = await decided
                    self._remember(sighting.source, verdict)
                    await self._record([sighting], {sighting.source.name: verdict}, keeps_running=True)
        finally:
            self._checking -= checked

    def _is_decided(self, sighting: Sighting) -> bool:
        """Whether exactly this code has failed already, or is being checked by an earlier look."""
        source, known = sighting.source, sighting.known
        has_failed = known is not None and known.error is not None and self._failed.get(source.name) == source.code_hash
        return has_failed or sighting.has_failed_before or (source.name, source.code_hash) in self._checking

    def _remember(self, source: PluginSource, verdict: Verdict) -> None:
        if isinstance(verdict, ContractError):
            self._failed[source.name] = source.code_hash
        else:
            self._failed.pop(source.name, None)

    async def find(self, name: str, code_hash: str | None = None) -> PluginSource | None:
        """A plugin's folder, read anew; with a hash only if it holds exactly that code."""
        self._sources = await asyncio.to_thread(discover, self.folders.roots)
        return self.known_source(name, code_hash)

    def known_source(self, name: str, code_hash: str | None = None) -> PluginSource | None:
        """As `find`, but as of the last look."""
        for source in self._sources:
            if source.name == name and code_hash in (None, source.code_hash):
                return source
        return None

    async def check(self, source: PluginSource) -> Contract:
        """Import a plugin in a throwaway process. Raises ContractError."""
        return await check(source, copies=self.folders.copies)

    async def beside_others(self, connection: Connection, source: PluginSource, contract: Contract) -> Verdict:
        """The contract, or why it does not go with the other plugins; inside a transaction that has the catalog locked.

        A variable of the environment that one plugin reads is an operator's word to that plugin, and to no other. The
        product's own plugins cannot be kept out by another that was there first.
        """
        variables = [variable for provider in contract.providers for variable in provider.defaults.values()]
        if not variables or self.folders.is_built_in(source):
            return contract
        taken = await plugin_catalog.variable_of_another(connection, source.name, variables)
        if taken is None:
            return contract
        variable, owner = taken
        return ContractError(
            f"{source.folder}: a provider's defaults: {variable} is a variable of the plugin {owner!r}; choose one of "
            "your own, or let an admin disable that plugin first"
        )

    async def close(self) -> None:
        """Give up checks in progress."""
        for task in list(self._late):
            await end_task(task)

    async def _look(self) -> list[Sighting]:
        self._sources = await asyncio.to_thread(discover, self.folders.roots)
        async with self._database.connection() as connection:
            known = await plugin_catalog.load(connection)
        return [
            Sighting(source=source, known=known.get(source.name), is_trusted=self.folders.trusts(source))
            for source in self._sources
        ]

    async def _settle_late(self, checks: Checks, wanted: Sequence[Sighting], late: set[str]) -> None:
        try:
            for index, sighting in enumerate(wanted):
                if sighting.source.name in late:
                    verdict = {sighting.source.name: await checks.verdict(index)}
                    with suppress(UnavailableError):
                        await self._record([sighting], verdict, keeps_running=False)
        finally:
            await checks.__aexit__()

    async def _record(
        self,
        sightings: Sequence[Sighting],
        verdicts: Mapping[str, Verdict],
        *,
        keeps_running: bool,
        names: set[str] | None = None,
        only: str | None = None,
        even_if_running: bool = False,
    ) -> None:
        """Write the verdicts; `names` are all that were found, so that the others are known to be missing."""
        async with self._database.transaction() as connection:
            await plugin_catalog.lock(connection)
            known = await plugin_catalog.load(connection)
            if names is not None:
                missing = known.keys() - names if only is None else {only} - names
                await plugin_catalog.fail_missing(connection, missing, even_if_running=even_if_running)
            for sighting in sightings:
                # Others may have changed the plugin while it was checked.
                now = replace(sighting, known=known.get(sighting.source.name))
                verdict = verdicts.get(now.source.name)
                if verdict is None and now.needs_check:
                    continue  # enabled meanwhile, by somebody who has its verdict
                if isinstance(verdict, Contract):
                    verdict = await self.beside_others(connection, now.source, verdict)
                fault = str(verdict) if isinstance(verdict, ContractError) else None
                if await _is_outdated(sighting, now, verdict):
                    continue  # whoever changed the folder, or the row, has a newer verdict
                entry = entry_after(now, None if now.is_checked else fault, keeps_running=keeps_running)
                contract = verdict if isinstance(verdict, Contract) and now.needs_check else None
                await save_entry(connection, entry, contract)


async def _with(sighting: Sighting, verdict: Awaitable[Verdict]) -> tuple[Sighting, Verdict]:
    return sighting, await verdict


async def _is_outdated(looked_at: Sighting, now: Sighting, verdict: Verdict | None) -> bool:
    source = now.source
    if verdict is not None and (await asyncio.to_thread(read_source, source.folder)).code_hash != source.code_hash:
        return True
    is_bad = source.error is not None or isinstance(verdict, ContractError)
    before, after = looked_at.known, now.known
    return (
        is_bad
        and after is not None
        and (before is None or (before.status, before.code_hash) != (after.status, after.code_hash))
    )


async def save_entry(connection: Connection, entry: CatalogPlugin, contract: Contract | None) -> None:
    """Record a plugin with what its checked version brings, inside a transaction."""
    await plugin_catalog.save(connection, entry)
    if entry.error:
        log.error("plugin failed", plugin=entry.name, status=entry.status, error=readable(entry.error))
    if contract is not None:
        capabilities = [CatalogCapability(**capability.model_dump()) for capability in contract.capabilities]
        await plugin_catalog.save_capabilities(connection, entry.name, capabilities)
        providers = [CatalogProvider(**provider.model_dump()) for provider in contract.providers]
        await plugin_catalog.save_providers(connection, entry.name, providers)

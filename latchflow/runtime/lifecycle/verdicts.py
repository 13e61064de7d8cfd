"""What the catalog says of a plugin after its folder was looked at: pure decisions."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from latchflow.runtime.loader.discovery import PluginSource
from latchflow.store.plugin_catalog import CatalogPlugin, Status


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A plugin's folder as found, beside what the catalog knows.

    Attributes:
        is_trusted: It enables itself, with the scopes it declares: a built-in, or everything is enabled.
    """

    source: PluginSource
    known: CatalogPlugin | None
    is_trusted: bool

    @property
    def is_wanted(self) -> bool:
        """Whether it shall run, as far as admins say."""
        if self.known is not None and self.known.status == "DISABLED":
            return False
        return self.is_trusted or (self.known is not None and self.known.is_wanted)

    @property
    def is_checked(self) -> bool:
        """Whether exactly this code has passed."""
        known = self.known
        return known is not None and known.status == "ENABLED" and known.code_hash == self.source.code_hash

    @property
    def has_failed_before(self) -> bool:
        """Whether exactly this code has failed its check."""
        known = self.known
        return known is not None and known.status == "FAILED" and known.code_hash == self.source.code_hash

    @property
    def needs_check(self) -> bool:
        """Whether its code must be imported in a throwaway process."""
        return self.source.error is None and self.is_wanted and not self.is_checked


def entry_after(sighting: Sighting, fault: str | None, *, keeps_running: bool) -> CatalogPlugin:
    """The plugin as it is to be recorded.

    Args:
        sighting: What was found.
        fault: Why its check failed; None when it passed, or needed none.
        keeps_running: A bad version leaves the enabled one in force, with the error beside it.
    """
    source, known = sighting.source, sighting.known
    fault = source.error or fault
    if fault is not None and known is not None:
        if keeps_running and known.status == "ENABLED":
            return replace(known, error=fault)
        if source.error:
            # Nothing of what the folder says can be trusted; what admins decided stays.
            if known.status == "DISABLED":
                return replace(known, error=fault)
            return replace(known, status="FAILED", error=fault, code_hash="")
    is_disabled = known is not None and known.status == "DISABLED"
    status: Status = "ENABLED" if sighting.is_wanted else "DISCOVERED"
    if fault or is_disabled:
        status = "DISABLED" if is_disabled else "FAILED"
    return CatalogPlugin(
        name=source.name,
        display_name=source.display_name,
        version=source.version,
        status=status,
        error=fault,
        scopes=source.scopes,
        granted_scopes=_granted(sighting),
        code_hash=source.code_hash,
        is_wanted=sighting.is_wanted,
    )


def _granted(sighting: Sighting) -> Sequence[str]:
    """What admins granted, as far as it is declared; of a trusted plugin also what it declares for the first time."""
    source, known = sighting.source, sighting.known
    if known is None or (not known.is_wanted and known.status != "DISABLED"):
        return source.scopes if sighting.is_trusted else _declared(known.granted_scopes if known else (), source)
    added = [scope for scope in source.scopes if scope not in known.scopes] if sighting.is_trusted else []
    return [*_declared(known.granted_scopes, source), *added]


def _declared(granted: Sequence[str], source: PluginSource) -> list[str]:
    """A scope that comes back in a later version has to be granted again."""
    return [scope for scope in granted if scope in source.scopes]

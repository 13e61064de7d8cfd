"""Hot reload, for development on one machine: a plugin whose files change is checked and takes over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from watchfiles import Change, awatch

from latchflow.errors import LatchflowError
from latchflow.runtime.lifecycle.installing import Installer
from latchflow.runtime.loader.plugin_folder import is_ignored
from latchflow.runtime.tasks import end_task

_STEP_MILLISECONDS = 100
_DEBOUNCE_MILLISECONDS = 800

log = structlog.get_logger(__name__)


@asynccontextmanager
async def hot_reload(installer: Installer) -> AsyncIterator[None]:
    """Watch the folders of plugins while the block runs, nested files too.

    What changed is recorded in the catalog, which every process follows.
    """
    stop = asyncio.Event()
    task = asyncio.create_task(_watch(installer, stop))
    try:
        yield
    finally:
        stop.set()
        await end_task(task)


async def _watch(installer: Installer, stop: asyncio.Event) -> None:
    roots = [root for root in installer.folders.roots if root.is_dir()]
    if not roots:
        return
    watched = awatch(
        *roots,
        watch_filter=_Relevant(roots),
        step=_STEP_MILLISECONDS,
        debounce=_DEBOUNCE_MILLISECONDS,
        stop_event=stop,
    )
    log.info("watching the folders of plugins", folders=[str(root) for root in roots])
    async for _ in watched:
        try:
            await installer.refresh(even_if_running=True)
        except LatchflowError as error:
            log.warning("a change of plugins could not be recorded", reason=error.message)
        except Exception:
            log.exception("a change of plugins could not be recorded")


class _Relevant:
    """Leaves out what is no part of any plugin."""

    def __init__(self, roots: list[Path]) -> None:
        self._roots = [root.resolve() for root in roots]

    def __call__(self, _: Change, path: str) -> bool:
        changed = Path(path)
        for root in self._roots:
            if changed.is_relative_to(root):
                return not any(is_ignored(part) for part in changed.relative_to(root).parts)
        return True

"""Hot reload, for development on one machine: a plugin whose files change is checked and takes over."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import structlog
from watchfiles import Change, awatch

from latchflow.errors import LatchflowError
from latchflow.runtime.lifecycle.installing import Installer
from latchflow.runtime.loader.plugin_folder import is_ignored
from latchflow.runtime.tasks import end_task

_STEP_MILLISECONDS = 100
_DEBOUNCE_MILLISECONDS = 800
_LOOK_MILLISECONDS = 1000
"""How often to look whether a folder of PLUGINS_PATH has appeared."""

_AGAIN_SECONDS = 1.0

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
    """Watch until told to stop; what ends the watch is said, and it starts again."""
    refreshes: set[asyncio.Task[None]] = set()
    try:
        while not stop.is_set():
            try:
                await _watch_existing(installer, stop, refreshes)
            except Exception as error:
                log.warning("the folders of plugins cannot be watched now", reason=f"{type(error).__name__}: {error}")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _AGAIN_SECONDS)
    finally:
        for task in list(refreshes):
            await end_task(task)


async def _watch_existing(installer: Installer, stop: asyncio.Event, refreshes: set["asyncio.Task[None]"]) -> None:
    """Watch the folders that there are, until one of them appears or goes."""
    roots = _existing(installer)
    if not roots:
        return
    log.info("watching the folders of plugins", folders=[str(root) for root in roots])
    is_first = True
    async for changes in awatch(
        *roots,
        watch_filter=_Relevant(roots),
        step=_STEP_MILLISECONDS,
        debounce=_DEBOUNCE_MILLISECONDS,
        rust_timeout=_LOOK_MILLISECONDS,
        yield_on_timeout=True,
        stop_event=stop,
    ):
        if changes or is_first:  # at first for what changed while nobody watched
            is_first = False
            # Not awaited: a version whose check hangs must not hold up the change of another plugin.
            task = asyncio.create_task(_refresh(installer))
            refreshes.add(task)
            task.add_done_callback(refreshes.discard)
        if _existing(installer) != roots:
            return


def _existing(installer: Installer) -> list[Path]:
    return [root for root in installer.folders.roots if root.is_dir()]


async def _refresh(installer: Installer) -> None:
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

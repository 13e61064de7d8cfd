"""What is amiss with the processes: nobody works on a queue, or plugins have cost one of them threads or loops."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from latchflow.store.processes import Process

_RECENT = timedelta(hours=1)
"""A loop replaced longer ago is still counted, and no problem any more."""


def queue_problems(alive: Sequence[Process], dedicated: Collection[str], awaited: Mapping[str, int]) -> Iterator[str]:
    """The queues that no worker is there for, in words.

    Args:
        alive: The processes that reported lately.
        dedicated: The plugins that need workers of their own.
        awaited: By plugin, the steps that open events have on its own queue.
    """
    reporting = [process for process in alive if process.role == "worker"]
    draining = {process.stats.get("dedicatedPlugin") for process in reporting if process.stats.get("draining")}
    workers = {process.stats.get("dedicatedPlugin") for process in reporting if not process.stats.get("draining")}
    if None not in workers:
        yield (
            "Every worker drains: events wait until one is there again. `latchflow worker` starts another meanwhile."
            if None in draining
            else "No worker reports: events wait. Start one with `latchflow worker`."
        )
    for plugin in sorted(set(dedicated) - workers):
        yield (
            f"Every worker of the dedicated plugin {plugin} drains: its steps wait until one is there again. "
            f"`latchflow worker --plugin {plugin}` starts another meanwhile."
            if plugin in draining
            else f"No worker of the dedicated plugin {plugin} reports: its steps wait. "
            f"Start one with `latchflow worker --plugin {plugin}`."
        )
    for plugin in sorted(awaited.keys() - workers - set(dedicated)):
        wait = "1 step waits" if awaited[plugin] == 1 else f"{awaited[plugin]} steps wait"
        yield (
            f"{wait} on the queue of {plugin}, which LATCHFLOW_DEDICATED_PLUGINS does not name any more, and no worker "
            f"serves it. Run `latchflow worker --plugin {plugin}` until they have ended."
        )


def strain_problems(alive: Sequence[Process]) -> Iterator[str]:
    """What plugins have cost the processes, in words."""
    for process in alive:
        yield from _of_process(process)


def _of_process(process: Process) -> Iterator[str]:
    if process.stats.get("draining"):
        yield (
            f"{process.role.capitalize()} {process.identity} drains: plugins left too much over in it. It takes no new "
            "work, and ends with status 75 when its attempts in progress have ended, within 125 seconds."
        )
    counts = {"thread": process.stats.get("leftoverThreads", 0), "task": process.stats.get("leftoverTasks", 0)}
    if total := sum(counts.values()):
        what = " and ".join(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts.items() if count)
        whose = _listed(
            f"{left['plugin']} ({left['capability'] or 'its blocked loop'})" for left in process.stats["leftover"]
        )
        lives = "lives" if total == 1 else "live"
        yield f"In {process.role} {process.identity} {what} {lives} on though nobody waits for them: {whose}."
    for loop in process.stats.get("replaced", ()):
        if process.seen_at - datetime.fromisoformat(loop["lastAt"]) > _RECENT:
            continue
        times = "once" if loop["times"] == 1 else f"{loop['times']} times"
        yield (
            f"In {process.role} {process.identity} the plugin {loop['plugin']} blocked its loop {times}, "
            f"the last time at {loop['lastPlace']}."
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))

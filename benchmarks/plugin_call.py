"""What it costs a worker to call a no-op action the way it calls every action.

    python -m benchmarks.plugin_call [--pairs N]

Each pair calls the same function twice: as it stands, and through invoker, guard and plugin loop, with everything that
is made for one attempt. The pairs are interleaved, so that a machine whose speed varies disturbs both sides alike. The
time is the process's CPU time, of all its threads; what is compared are medians.
"""

import argparse
import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import BaseModel, Field
from rich.console import Console
from rich.table import Table

from latchflow.runtime.guard import Backends, Grant, GuardedServices
from latchflow.runtime.invoking.invoker import Call, Success, invoke
from latchflow.runtime.lifecycle.registry import LoadedAction, Registry
from latchflow.runtime.loader.discovery import PluginSource
from latchflow.sdk import ActionCall, Invocation, Plugin
from latchflow.testing import MemoryRecords, Services

GOAL_MS = 1.0
_NAME = "acme-nothing"
_ID = UUID(int=1)


class Config(BaseModel):
    """As an ordinary action has one."""

    url: str = "https://example.org"
    retries: int = 3
    api_key: str | None = Field(None, alias="apiKey", json_schema_extra={"writeOnly": True})


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Milliseconds of CPU time of one call.

    Attributes:
        bare: Median of calling the function.
        whole: Median of the call as a worker makes it.
        added: Median of the differences of the pairs.
        p95: Of the same.
    """

    action: str
    bare: float
    whole: float
    added: float
    p95: float


def registry() -> Registry:
    """A plugin with two actions that do nothing, loaded as a worker has it."""
    plugin = Plugin()

    @plugin.action("coroutine", display_name="Nothing", config_schema=Config)
    async def coroutine(call: ActionCall[Config]) -> dict[str, bool]:
        return {"done": True}

    @plugin.action("plain", display_name="Nothing", config_schema=Config)
    def plain(call: ActionCall[Config]) -> dict[str, bool]:
        return {"done": True}

    source = PluginSource(
        name=_NAME,
        version="1.0.0",
        display_name="Nothing",
        scopes=(),
        folder=Path(__file__).parent,
        code_hash="c0de",
    )
    return Registry.of(plugin, source, frozenset())


async def measure(action: LoadedAction, pairs: int) -> Cost:
    """Call an action and its function in turn; a tenth as many calls come before to warm up."""
    backends, details = Services().backends, _details()
    whole: list[float] = []
    bare: list[float] = []
    for number in range(pairs + pairs // 10):
        sides: list[tuple[list[float], Callable[[], Awaitable[Any]]]] = [
            (bare, lambda: _bare(action, details)),
            (whole, lambda: _whole(action, backends)),
        ]
        for times, call in sides if number % 2 else reversed(sides):
            begun = time.process_time_ns()
            await call()
            times.append((time.process_time_ns() - begun) / 1e6)
    return _cost(action.key, bare[pairs // 10 :], whole[pairs // 10 :])


async def _bare(action: LoadedAction, details: ActionCall[Any]) -> None:
    answer = action.execute(details)
    if asyncio.iscoroutine(answer):
        await answer


async def _whole(action: LoadedAction, backends: Backends) -> None:
    grant = Grant(
        granted_scopes=action.plugin.granted_scopes,
        capability_scopes=frozenset(action.capability.scopes),
        idempotency_key=str(_ID),
        records=MemoryRecords(),
        host_loop=asyncio.get_running_loop(),
        deadline=datetime.now(UTC) + timedelta(seconds=115),
    )
    call = Call(
        config={"url": "https://example.org", "apiKey": "hunter2-hunter2"},
        payload={"name": "Ada"},
        is_payload_from_input=True,
        invocation=_invocation(),
        services=GuardedServices(backends, grant, actor=f"{_NAME}/{action.key}"),
        idempotency_key=grant.idempotency_key,
        timeout_seconds=115,
        deadline=grant.deadline,
        heartbeat=lambda progress: None,
    )
    result = await invoke(action, call)
    grant.end()
    assert isinstance(result, Success), result  # noqa: S101 - else it measures something else


def _details() -> ActionCall[Any]:
    unused: Any = None
    return ActionCall(
        config=Config(),
        secrets={},
        payload={},
        invocation=_invocation(),
        services=unused,
        logger=unused,
        idempotency_key="",
        heartbeat=unused,
        deadline=datetime.now(UTC),
        wait=unused,
        callback_url=unused,
    )


def _invocation() -> Invocation:
    return Invocation(id=_ID, attempt=1, event_id=_ID, trigger_id=_ID, pipeline_id=_ID, step_name="nothing")


def _cost(action: str, bare: Sequence[float], whole: Sequence[float]) -> Cost:
    added = [two - one for one, two in zip(bare, whole, strict=True)]
    return Cost(
        action=action,
        bare=statistics.median(bare),
        whole=statistics.median(whole),
        added=statistics.median(added),
        p95=statistics.quantiles(added, n=20)[-1],
    )


async def costs(pairs: int) -> list[Cost]:
    """The cost of a coroutine function and of a plain one, which runs in a thread."""
    loaded = registry()
    try:
        return [await measure(action, pairs) for action in loaded.actions.values()]
    finally:
        loaded.close()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="What a call of a no-op action costs a worker.")
    parser.add_argument("--pairs", type=int, default=5000)
    pairs = parser.parse_args().pairs
    table = Table(title=f"CPU time of one call, {pairs} interleaved pairs; goal: at most {GOAL_MS:g} ms added")
    for column in ("action", "function alone, ms", "called by a worker, ms", "added, ms (median)", "p95"):
        table.add_column(column, justify="left" if column == "action" else "right")
    for cost in asyncio.run(costs(pairs)):
        table.add_row(cost.action, *(f"{value:.3f}" for value in (cost.bare, cost.whole, cost.added, cost.p95)))
    Console().print(table)


if __name__ == "__main__":
    main()

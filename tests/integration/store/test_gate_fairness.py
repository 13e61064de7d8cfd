"""What a trigger with many waiting events costs the others."""

import re
import statistics
import time
from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from latchflow.store.database import Database
from tests.support.execution import Deployment, settings_of
from tests.support.gate import Gate, open_gate
from tests.support.postgres import Server

_WAITING = 10_000
_FEW = 500
_MOST_SLOWER = 1.2
_MOST_CHORES = 0.1  # seconds


@pytest.fixture
async def other_gate(postgres: Server) -> AsyncIterator[Gate]:
    created = postgres.create_database()
    async with Database.open(settings_of(created)) as pool, open_gate(Deployment(created, pool)) as gate:
        yield gate
    postgres.drop_database(created)


async def fill(gate: Gate, number: int) -> None:
    """Let many events of a trigger wait, older than everything else, as copies of one, behind one that runs."""
    _, model = await gate.fire(await gate.trigger(max_running_events=1), 2)
    await gate.deployment.rows(
        """
        INSERT INTO events (id, trigger_id, trigger_name, status, metadata, context_sealed, manifest, workflow_id,
                            fired_at, gate_verdict, gate_reason, is_waiting)
        SELECT gen_random_uuid(), trigger_id, trigger_name, 'PENDING', metadata, context_sealed, manifest, workflow_id,
               now() - interval '1 hour', 'wait', 'max_running_events', true
        FROM events, generate_series(1, %s) WHERE id = %s
        """,
        number,
        model,
    )


async def seconds_to_start(gate: Gate, trigger_id: UUID) -> float:
    """From the firing to the start of its workflow, while the chores take their turns."""
    began = time.perf_counter()
    (event_id,) = await gate.fire(trigger_id)
    took = time.perf_counter() - began
    assert gate.starts.started[-1] == event_id
    return took


async def seconds_of_chores(gate: Gate) -> float:
    began = time.perf_counter()
    await gate.turn()
    await gate.dispatchers[0].drain(older_than_seconds=0)
    return time.perf_counter() - began


async def measure(noisy: Gate, quiet: Gate, waiting: int, pairs: int) -> tuple[float, float, float]:
    """Medians over pairs: a start without the noise, with it, and a turn of the chores with it.

    Two databases of one server that differ in nothing but the noise.
    """
    await fill(noisy, waiting)
    triggers = {
        gate: (await gate.trigger(), await gate.trigger(max_running_events=1_000_000)) for gate in (noisy, quiet)
    }
    seconds: dict[Gate, list[float]] = {noisy: [], quiet: []}
    chores = []
    for number in range(pairs + 2):
        for gate in (noisy, quiet) if number % 2 else (quiet, noisy):
            took = [await seconds_to_start(gate, trigger_id) for trigger_id in triggers[gate]]
            if number >= 2:  # the first warm up connections and caches
                seconds[gate].append(sum(took))
        chores.append(await seconds_of_chores(noisy))
    assert len(noisy.starts.started) == 1 + 2 * (pairs + 2), "none of those that wait was started"
    return statistics.median(seconds[quiet]), statistics.median(seconds[noisy]), statistics.median(chores)


async def test_a_trigger_with_waiting_events_hardly_delays_the_start_of_others(gate: Gate, other_gate: Gate) -> None:
    without, with_noise, chores = await measure(gate, other_gate, _FEW, pairs=40)

    assert with_noise < without * _MOST_SLOWER, f"{without * 1000:.2f} ms without, {with_noise * 1000:.2f} ms with"
    assert chores < _MOST_CHORES


@pytest.mark.long
async def test_ten_thousand_waiting_events_hardly_delay_the_start_of_others(gate: Gate, other_gate: Gate) -> None:
    without, with_noise, chores = await measure(gate, other_gate, _WAITING, pairs=200)

    assert with_noise < without * _MOST_SLOWER, f"{without * 1000:.2f} ms without, {with_noise * 1000:.2f} ms with"
    assert chores < _MOST_CHORES


async def test_neither_dispatch_nor_the_chores_walk_over_what_waits(gate: Gate) -> None:
    await fill(gate, _FEW)
    await gate.deployment.rows("ANALYZE events")
    for statement in (
        """
        SELECT id FROM events
        WHERE start_confirmed_at IS NULL AND closed_at IS NULL AND NOT is_waiting AND cancel_wanted_at IS NULL
        ORDER BY coalesce(released_at, fired_at) LIMIT 20
        """,
        "SELECT FROM events WHERE trigger_id = gen_random_uuid() AND NOT is_waiting AND closed_at IS NULL LIMIT 2",
    ):
        plan = await gate.deployment.rows(f"EXPLAIN (ANALYZE, COSTS OFF) {statement}")
        text = "\n".join(row["QUERY PLAN"] for row in plan)
        walked_over = [int(number) for number in re.findall(r"Rows Removed by Filter: (\d+)", text)]
        assert sum(walked_over) < 10, text
        assert "Seq Scan" not in text, text

"""What a trigger with many waiting events costs the others."""

import statistics
import time
from uuid import UUID

import pytest

from tests.support.execution import Deployment
from tests.support.gate import Gate

_WAITING = 10_000
_FEW = 500
_MOST_SLOWER = 1.2


async def fill(deployment: Deployment, trigger_id: UUID, event_id: UUID, number: int) -> None:
    """Let many more events of a trigger wait, older than everything else, as copies of one."""
    await deployment.rows(
        """
        INSERT INTO events (id, trigger_id, trigger_name, status, metadata, context_sealed, manifest, workflow_id,
                            fired_at, gate_verdict, gate_reason, is_waiting)
        SELECT gen_random_uuid(), trigger_id, trigger_name, 'PENDING', metadata, context_sealed, manifest, workflow_id,
               now() - interval '1 hour', 'wait', 'max_running_events', true
        FROM events, generate_series(1, %s) WHERE id = %s
        """,
        number,
        event_id,
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


async def measure(gate: Gate, waiting: int, pairs: int) -> tuple[float, float, float]:
    """Medians of pairs: a start without the noise, with it, and a turn of the chores with it."""
    noisy, plain = await gate.trigger(max_running_events=1), await gate.trigger()
    limited = await gate.trigger(max_running_events=1_000_000)
    running, model = await gate.fire(noisy, 2)
    async with gate.deployment.database.transaction() as connection:
        await connection.execute("UPDATE events SET is_waiting = false, closed_at = now() WHERE id = %s", (model,))
    without, with_noise, chores = [], [], []
    for _ in range(pairs):
        await gate.deployment.rows("DELETE FROM events WHERE trigger_id = %s AND is_waiting", noisy)
        without.append(await seconds_to_start(gate, plain) + await seconds_to_start(gate, limited))
        await fill(gate.deployment, noisy, model, waiting)
        with_noise.append(await seconds_to_start(gate, plain) + await seconds_to_start(gate, limited))
        chores.append(await seconds_of_chores(gate))
    assert gate.starts.started.count(running) == 1
    assert len(gate.starts.started) == 1 + 4 * pairs, "none of those that wait was started"
    return statistics.median(without), statistics.median(with_noise), statistics.median(chores)


async def test_a_trigger_with_waiting_events_hardly_delays_the_start_of_others(gate: Gate) -> None:
    without, with_noise, chores = await measure(gate, _FEW, pairs=25)

    assert with_noise < without * _MOST_SLOWER, f"{without * 1000:.2f} ms without, {with_noise * 1000:.2f} ms with"
    assert chores < 0.1


@pytest.mark.long
async def test_ten_thousand_waiting_events_hardly_delay_the_start_of_others(gate: Gate) -> None:
    without, with_noise, chores = await measure(gate, _WAITING, pairs=60)

    assert with_noise < without * _MOST_SLOWER, f"{without * 1000:.2f} ms without, {with_noise * 1000:.2f} ms with"
    assert chores < 0.1


async def test_neither_dispatch_nor_the_chores_walk_over_what_waits(gate: Gate) -> None:
    noisy = await gate.trigger(max_running_events=1)
    _, model = await gate.fire(noisy, 2)
    await fill(gate.deployment, noisy, model, _FEW)
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
        assert "Rows Removed by Filter" not in text, text
        assert "Seq Scan" not in text, text

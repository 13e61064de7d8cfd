"""The pause of everything on a real PostgreSQL."""

from temporalio.service import RPCError, RPCStatusCode

from tests.support.gate import Gate

_AWAY = RPCError("away", RPCStatusCode.UNAVAILABLE, b"")


async def test_while_paused_events_are_accepted_and_wait_and_afterwards_they_start(gate: Gate) -> None:
    trigger_id = await gate.trigger()
    (before,) = await gate.fire(trigger_id)
    await gate.pause(is_paused=True)
    fired = await gate.fire(trigger_id, 3)
    assert await gate.states([before, *fired]) == ["RUNNING"] + ["WAITING"] * 3
    assert await gate.turn() == 0
    assert (await gate.deployment.event(fired[0]))["gate_reason"] == "paused"

    await gate.pause(is_paused=False)
    assert await gate.turn() == 3
    assert gate.starts.started == [before, *fired]


async def test_while_paused_neither_an_ending_nor_the_drainer_starts_anything(gate: Gate) -> None:
    first, _ = await gate.fire(await gate.trigger(max_running_events=1), 2)
    gate.starts.failure = _AWAY
    (unstarted,) = await gate.fire(await gate.trigger())
    gate.starts.failure = None
    await gate.pause(is_paused=True)
    await gate.end(first)

    assert await gate.dispatchers[0].drain(older_than_seconds=0) == 0
    assert gate.starts.started == [first]
    await gate.pause(is_paused=False)
    assert await gate.dispatchers[0].drain(older_than_seconds=0) == 1
    assert gate.starts.started == [first, unstarted]
    assert await gate.turn() == 1


async def test_after_a_pause_triggers_get_their_turns_alike_and_a_bounded_number_at_a_time(gate: Gate) -> None:
    noisy, quiet = await gate.trigger(), await gate.trigger()
    await gate.pause(is_paused=True)
    many = await gate.fire(noisy, 60)
    few = await gate.fire(quiet, 5)
    await gate.pause(is_paused=False)

    assert await gate.turn() == 50
    assert await gate.states(few) == ["RUNNING"] * 5
    assert await gate.states(many) == ["RUNNING"] * 45 + ["WAITING"] * 15
    assert await gate.turn() == 15


async def test_every_trigger_has_its_turn_however_many_wait(gate: Gate) -> None:
    trigger_id = await gate.trigger()
    await gate.pause(is_paused=True)
    (event_id,) = await gate.fire(trigger_id)
    await gate.deployment.rows(
        """
        INSERT INTO events (id, trigger_id, trigger_name, status, metadata, context_sealed, manifest, fired_at,
                            is_waiting)
        SELECT gen_random_uuid(), gen_random_uuid(), 'other', 'PENDING', '{}', '', manifest, now(), true
        FROM events, generate_series(1, 119) WHERE id = %s
        """,
        event_id,
    )
    await gate.pause(is_paused=False)

    assert [await gate.turn() for _ in range(4)] == [50, 50, 20, 0]

"""Closing events, and finding those that have gone silent."""

import asyncio

from latchflow.model import EventStatus, InvocationStatus, Outcome
from latchflow.store import silence
from latchflow.temporal.closing import close_event
from tests.support.execution import Deployment, Step

_ONE = Step(action="do", name="one")
_TWO = Step(action="do", name="two", sort_order=1)


async def _age(deployment: Deployment, seconds: int) -> None:
    """Let the events look as if everything had happened earlier."""
    await deployment.rows(
        """
        UPDATE events SET start_confirmed_at = start_confirmed_at - make_interval(secs => %s),
                          next_check_at = next_check_at - make_interval(secs => %s)
        """,
        seconds,
        seconds,
    )


async def _due(deployment: Deployment) -> list[object]:
    async with deployment.database.connection() as connection:
        return [event.id for event in await silence.due(connection, limit=100)]


async def test_a_second_closing_changes_nothing_and_says_so(deployment: Deployment) -> None:
    event_id = await deployment.open_event([_ONE, _TWO])
    first = await close_event(deployment.database, event_id, outcomes={}, closed_by="closer", reason="gone")
    before = await deployment.event(event_id)
    second = await close_event(deployment.database, event_id, outcomes={}, closed_by="workflow")

    assert (first, second) == (EventStatus.FAILED, None)
    assert await deployment.event(event_id) == before
    assert await deployment.phases(event_id, "one") == ["FAILED"]
    await deployment.check_accounts(event_id)


async def test_the_closer_knows_a_disabled_step_from_one_that_failed(deployment: Deployment) -> None:
    disabled = Step(action="do", name="disabled", sort_order=1, is_enabled=False)
    event_id = await deployment.open_event([_ONE, disabled, Step(action="do", name="last", sort_order=2)])
    await deployment.rows(
        """
        UPDATE invocations SET status = 'SUCCEEDED', ended_at = now()
        WHERE event_id = %s AND step_name IN ('one', 'last')
        """,
        event_id,
    )

    status = await close_event(deployment.database, event_id, outcomes={}, closed_by="closer", reason="gone")

    assert status is EventStatus.SUCCEEDED
    assert (await deployment.statuses(event_id))["disabled"] == "SKIPPED"


async def test_ten_closings_at_once_close_once(deployment: Deployment) -> None:
    event_id = await deployment.open_event([_ONE, _TWO])
    answers = await asyncio.gather(
        *(close_event(deployment.database, event_id, outcomes={}, closed_by="closer") for _ in range(10))
    )

    assert [answer for answer in answers if answer is not None] == [EventStatus.FAILED]
    await deployment.check_accounts(event_id)


async def test_what_the_workflow_knows_decides_over_the_default(deployment: Deployment) -> None:
    event_id = await deployment.open_event([_ONE, _TWO], [Step(action="do", name="three")])
    steps = await deployment.steps(event_id)
    known = [
        Outcome(invocation_id=steps["one"]["id"], status=InvocationStatus.SUCCEEDED),
        Outcome(invocation_id=steps["two"]["id"], status=InvocationStatus.SKIPPED, reason="step_disabled"),
    ]
    status = await close_event(
        deployment.database,
        event_id,
        outcomes={outcome.invocation_id: outcome for outcome in known},
        closed_by="workflow",
        default=InvocationStatus.CANCELLED,
    )

    assert status is EventStatus.PARTIAL_FAILURE
    assert await deployment.statuses(event_id) == {"one": "SUCCEEDED", "two": "SKIPPED", "three": "CANCELLED"}


async def test_an_unknown_event_is_not_closed(deployment: Deployment) -> None:
    unknown = await deployment.define([_ONE])

    assert await close_event(deployment.database, unknown, outcomes={}, closed_by="closer") is None


async def test_an_event_is_due_after_a_minute_of_silence_and_not_before(deployment: Deployment) -> None:
    event_id = await deployment.open_event([_ONE])

    assert await _due(deployment) == []
    await _age(deployment, 61)
    assert await _due(deployment) == [event_id]


async def test_an_event_whose_start_is_not_confirmed_is_never_due(deployment: Deployment) -> None:
    await deployment.open_event([_ONE])
    await deployment.rows("UPDATE events SET start_confirmed_at = NULL, next_check_at = now() - interval '1 day'")

    assert await _due(deployment) == []


async def test_a_closed_event_is_never_due(deployment: Deployment) -> None:
    event_id = await deployment.open_event([_ONE])
    await _age(deployment, 3600)
    await close_event(deployment.database, event_id, outcomes={}, closed_by="workflow")

    assert await _due(deployment) == []


async def test_an_event_whose_next_attempt_has_a_time_is_put_off_until_after_it(deployment: Deployment) -> None:
    event_id = await deployment.open_event([_ONE])
    await _age(deployment, 3600)
    await deployment.rows("UPDATE invocations SET next_attempt_at = now() + interval '1 hour'")

    assert await _due(deployment) == []
    (row,) = await deployment.rows(
        "SELECT next_check_at - now() > interval '59 minutes' AS is_put_off FROM events WHERE id = %s", event_id
    )
    assert row["is_put_off"]


async def test_a_step_that_waits_for_a_month_does_not_hide_one_that_runs(deployment: Deployment) -> None:
    event_id = await deployment.open_event([_ONE], [_ONE])
    await _age(deployment, 3600)
    await deployment.rows(
        """
        UPDATE invocations SET status = CASE WHEN number = 1 THEN 'WAITING' ELSE 'RUNNING' END,
                               next_attempt_at = CASE WHEN number = 1 THEN now() + interval '30 days' END
        FROM (SELECT id, row_number() OVER (ORDER BY id) AS number FROM invocations) numbered
        WHERE numbered.id = invocations.id
        """
    )

    assert await _due(deployment) == [event_id]


async def test_an_event_that_waits_for_a_month_is_asked_about_within_about_an_hour(deployment: Deployment) -> None:
    event_id = await deployment.open_event([_ONE])
    await _age(deployment, 3600)
    await deployment.rows("UPDATE invocations SET status = 'WAITING', next_attempt_at = now() + interval '30 days'")

    assert await _due(deployment) == []
    (row,) = await deployment.rows(
        "SELECT next_check_at - now() < interval '62 minutes' AS is_soon FROM events WHERE id = %s", event_id
    )
    assert row["is_soon"]


async def test_a_sign_of_life_puts_the_question_off(deployment: Deployment) -> None:
    await deployment.open_event([_ONE])
    await _age(deployment, 3600)
    await deployment.rows(
        """
        INSERT INTO attempts (workflow_run_id, activity_id, temporal_attempt, invocation_id, number, phase, started_at,
                              worker, plugin_version, code_hash)
        SELECT 'r', 'a', 1, id, 1, 'STARTED', now() - interval '30 seconds', 'w', '1', 'c' FROM invocations
        """
    )

    assert await _due(deployment) == []


async def test_an_event_that_goes_on_is_asked_about_at_doubling_intervals_up_to_an_hour(deployment: Deployment) -> None:
    event_id = await deployment.open_event([_ONE])
    waits = []
    for _ in range(8):
        async with deployment.database.connection() as connection:
            await silence.look_later(connection, event_id, is_stuck=False)
        (row,) = await deployment.rows("SELECT extract(epoch FROM next_check_at - now())::float AS wait FROM events")
        waits.append(round(row["wait"]))

    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]


async def test_a_sign_that_the_workflow_is_gone_brings_the_question_forward(deployment: Deployment) -> None:
    event_id = await deployment.open_event([_ONE])
    await _age(deployment, 61)
    async with deployment.database.connection() as connection:
        await silence.look_later(connection, event_id, is_stuck=False)
        assert await _due(deployment) == []
        await silence.look_now(connection, event_id)

    assert await _due(deployment) == [event_id]

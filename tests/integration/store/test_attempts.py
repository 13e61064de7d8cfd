"""Claims and endings of attempts, raced against each other on a real PostgreSQL."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from latchflow.model import InvocationStatus, Outcome, Phase
from latchflow.store import attempts, events, invocations
from latchflow.store.attempts import AttemptKey, Claimed, Ending, Runner, Task
from latchflow.temporal.closing import close_event
from tests.support.execution import Deployment, Step

_RUNNER = Runner(worker="1@here", plugin_version="1.0.0", code_hash="c0de")
_SUCCESS = Ending(phase=Phase.SUCCEEDED, status=InvocationStatus.SUCCEEDED, output_sealed=b"sealed")
_RETRYING = Ending(
    phase=Phase.RETRYING, status=InvocationStatus.RETRYING, error={"type": "ValueError", "message": "no"}
)


def key(temporal_attempt: int, *, run: str = "run") -> AttemptKey:
    return AttemptKey(workflow_run_id=run, activity_id="activity", temporal_attempt=temporal_attempt)


class Invocation:
    """One invocation and what attempts do to it."""

    def __init__(self, deployment: Deployment, event_id: UUID, task: Task) -> None:
        self.deployment = deployment
        self.event_id = event_id
        self.task = task

    async def claim(self, temporal_attempt: int, *, run: str = "run") -> Claimed | None:
        async with self.deployment.database.transaction() as connection:
            return await attempts.claim(connection, self.task, key(temporal_attempt, run=run), _RUNNER)

    async def end(self, temporal_attempt: int, ending: Ending, *, number: int | None = None) -> bool:
        async with self.deployment.database.connection() as connection:
            return await attempts.end(
                connection, self.task, key(temporal_attempt), ending, number=number or temporal_attempt
            )

    async def close(self) -> None:
        await close_event(self.deployment.database, self.event_id, outcomes={}, closed_by="closer", reason="test")
        await self.deployment.check_accounts(self.event_id)

    async def phases(self) -> list[str]:
        return await self.deployment.phases(self.event_id, "one")

    async def row(self) -> dict[str, Any]:
        return (await self.deployment.steps(self.event_id))["one"]


@pytest.fixture
async def invocation(deployment: Deployment) -> Invocation:
    event_id = await deployment.open_event([Step(action="do", name="one")])
    (row,) = (await deployment.steps(event_id)).values()
    async with deployment.database.connection() as connection:
        task = await attempts.load(connection, row["id"])
    assert task is not None
    return Invocation(deployment, event_id, task)


async def test_the_first_claim_is_number_one_and_is_audited_as_started(invocation: Invocation) -> None:
    assert await invocation.claim(1) == Claimed(number=1, counted_before=0, lost_before=0)
    assert await invocation.phases() == ["STARTED"]
    assert (await invocation.row())["status"] == "RUNNING"


async def test_of_two_attempts_that_claim_at_once_the_later_one_holds_the_invocation(invocation: Invocation) -> None:
    for round_number in range(10):
        first, second = 2 * round_number + 1, 2 * round_number + 2
        claims = await asyncio.gather(invocation.claim(first), invocation.claim(second))
        is_first_ended = not await invocation.end(first, _SUCCESS, number=99) if claims[0] else True

        assert claims[1] is not None
        assert is_first_ended, "the earlier attempt could still end the invocation"
    assert (await invocation.row())["claimed_attempt"] == 20


async def test_an_earlier_attempt_cannot_claim_after_a_later_one(invocation: Invocation) -> None:
    await invocation.claim(3)

    assert await invocation.claim(2) is None
    assert await invocation.claim(3) is None
    assert await invocation.phases() == ["STARTED"]


async def test_twenty_claims_of_one_attempt_give_it_to_one(invocation: Invocation) -> None:
    claims = await asyncio.gather(*(invocation.claim(1) for _ in range(20)))

    assert len([claim for claim in claims if claim is not None]) == 1
    assert await invocation.phases() == ["STARTED"]


async def test_a_claim_ends_the_predecessor_that_never_reported_as_lost(invocation: Invocation) -> None:
    await invocation.claim(1)

    assert await invocation.claim(2) == Claimed(number=2, counted_before=0, lost_before=1)
    assert await invocation.phases() == ["STARTED", "TIMED_OUT", "STARTED"]
    (first, _) = await invocation.deployment.rows("SELECT phase, is_lost FROM attempts ORDER BY number")
    assert first == {"phase": "TIMED_OUT", "is_lost": True}


async def test_an_attempt_whose_worker_was_stopped_says_nothing_of_the_action(invocation: Invocation) -> None:
    stopped = Ending(
        phase=Phase.RETRYING,
        status=InvocationStatus.RETRYING,
        is_lost=True,
        error={"type": "WorkerShutdown", "message": "The worker stopped."},
    )
    await invocation.claim(1)
    await invocation.end(1, stopped)

    assert await invocation.claim(2) == Claimed(number=2, counted_before=0, lost_before=0)


async def test_an_attempt_that_only_waited_for_a_lost_one_is_neither_counted_nor_lost(invocation: Invocation) -> None:
    await invocation.claim(1)
    await invocation.end(1, replace(_RETRYING, is_counted=False))

    assert await invocation.claim(2) == Claimed(number=2, counted_before=0, lost_before=0)


async def test_only_attempts_that_failed_by_themselves_count(invocation: Invocation) -> None:
    await invocation.claim(1)
    await invocation.end(1, _RETRYING)
    await invocation.claim(2)
    await invocation.end(2, Ending(phase=Phase.TIMED_OUT, status=InvocationStatus.RETRYING))
    await invocation.claim(3)  # never reports
    await invocation.claim(4)
    await invocation.end(4, Ending(phase=Phase.RETRYING, status=InvocationStatus.RETRYING, is_lost=True))

    assert await invocation.claim(9) == Claimed(number=5, counted_before=2, lost_before=2)


async def test_waiting_does_not_count_and_hands_what_it_keeps_to_every_later_attempt(invocation: Invocation) -> None:
    deadline = datetime(2099, 1, 1, tzinfo=UTC)
    waiting = Ending(
        phase=Phase.WAITING, status=InvocationStatus.WAITING, pending_sealed=b"kept", pending_deadline=deadline
    )
    await invocation.claim(1)
    await invocation.end(1, waiting)
    kept: dict[str, Any] = {"pending_sealed": b"kept", "pending_deadline": deadline}

    assert await invocation.claim(2) == Claimed(number=2, counted_before=0, lost_before=0, **kept)
    await invocation.end(2, _RETRYING)
    assert await invocation.claim(3) == Claimed(number=3, counted_before=1, lost_before=0, **kept)
    assert await invocation.claim(4) == Claimed(number=4, counted_before=1, lost_before=1, **kept)
    await invocation.end(4, _SUCCESS)
    row = await invocation.row()
    assert (row["pending_sealed"], row["pending_deadline"], row["status"]) == (None, None, "SUCCEEDED")


async def test_a_later_wait_takes_the_place_of_an_earlier_one(invocation: Invocation) -> None:
    deadline = datetime(2099, 1, 1, tzinfo=UTC)
    first = Ending(
        phase=Phase.WAITING, status=InvocationStatus.WAITING, pending_sealed=b"first", pending_deadline=deadline
    )
    await invocation.claim(1)
    await invocation.end(1, first)
    await invocation.claim(2)
    await invocation.end(2, Ending(phase=Phase.WAITING, status=InvocationStatus.WAITING, pending_sealed=b"second"))

    row = await invocation.row()
    assert (row["pending_sealed"], row["pending_deadline"]) == (b"second", None)


async def test_what_a_late_wait_brings_is_dropped(invocation: Invocation) -> None:
    await invocation.claim(1)
    await invocation.claim(2)
    late = Ending(phase=Phase.WAITING, status=InvocationStatus.WAITING, pending_sealed=b"late")

    assert not await invocation.end(1, late)
    assert (await invocation.row())["pending_sealed"] is None


async def test_closing_throws_away_what_a_wait_kept(invocation: Invocation) -> None:
    await invocation.claim(1)
    await invocation.end(1, Ending(phase=Phase.WAITING, status=InvocationStatus.WAITING, pending_sealed=b"kept"))
    await invocation.close()

    assert (await invocation.row())["pending_sealed"] is None


async def test_a_closed_invocation_cannot_be_claimed(invocation: Invocation) -> None:
    await invocation.close()

    assert await invocation.claim(1) is None
    assert await invocation.claim(1, run="another") is None
    await invocation.deployment.check_accounts(invocation.event_id)


async def test_a_claim_and_the_closing_at_once_leave_no_attempt_open(deployment: Deployment) -> None:
    for _ in range(8):
        event_id = await deployment.open_event([Step(action="do", name="one")])
        (row,) = (await deployment.steps(event_id)).values()
        async with deployment.database.connection() as connection:
            task = await attempts.load(connection, row["id"])
        assert task is not None
        raced = Invocation(deployment, event_id, task)
        await asyncio.gather(
            raced.claim(1, run=str(event_id)),
            close_event(deployment.database, event_id, outcomes={}, closed_by="closer", reason="test"),
        )

        await deployment.check_accounts(event_id)


async def test_an_ending_is_written_once_and_the_second_is_only_noted_as_late(invocation: Invocation) -> None:
    await invocation.claim(1)

    assert await invocation.end(1, _SUCCESS)
    assert not await invocation.end(1, _RETRYING)
    assert await invocation.phases() == ["STARTED", "SUCCEEDED", "LATE"]
    row = await invocation.row()
    assert (row["status"], row["output_sealed"]) == ("SUCCEEDED", b"sealed")


async def test_twenty_endings_at_once_write_one(invocation: Invocation) -> None:
    await invocation.claim(1)
    answers = await asyncio.gather(*(invocation.end(1, ending) for ending in [_SUCCESS, _RETRYING] * 10))

    assert answers.count(True) == 1
    phases = await invocation.phases()
    assert phases.count("LATE") == 19
    assert len(phases) == 21


async def test_a_late_success_changes_nothing_of_what_a_later_attempt_holds(invocation: Invocation) -> None:
    await invocation.claim(1)
    await invocation.claim(2)

    assert not await invocation.end(1, _SUCCESS)
    row = await invocation.row()
    assert (row["status"], row["ended_at"], row["output_sealed"]) == ("RUNNING", None, None)


async def test_an_ending_and_the_closing_at_once_do_not_deadlock(invocation: Invocation) -> None:
    await invocation.claim(1)
    database = invocation.deployment.database
    async with database.transaction() as connection:
        manifest = await events.lock_open(connection, invocation.event_id)
        assert manifest is not None
        await events.recorded(connection, [run.run_id for run in manifest.runs])
        ending = asyncio.create_task(invocation.end(1, _SUCCESS))
        await _until_somebody_waits(invocation.deployment)
        await attempts.end_open_attempts(connection, [invocation.task.invocation_id], reason="closed")
        await invocations.end_invocation(
            connection, Outcome(invocation_id=invocation.task.invocation_id, status=InvocationStatus.FAILED)
        )

    assert not await ending
    assert await invocation.phases() == ["STARTED", "TIMED_OUT", "FAILED", "LATE"]


async def test_an_ending_and_the_next_claim_at_once_give_the_attempt_one_ending(invocation: Invocation) -> None:
    for attempt in range(1, 11):
        await invocation.claim(attempt)
        ended, claimed = await asyncio.gather(
            invocation.end(attempt, _RETRYING), invocation.claim(attempt + 1), return_exceptions=True
        )
        assert not isinstance(ended, BaseException), ended
        assert isinstance(claimed, Claimed)
        assert claimed.counted_before + claimed.lost_before == attempt
    await invocation.close()


async def test_what_no_jsonb_can_hold_is_replaced_in_an_ending(invocation: Invocation) -> None:
    await invocation.claim(1)
    error = {"type": "Bad\x00Error", "message": "half a pair \ud800"}

    assert await invocation.end(
        1, Ending(phase=Phase.FAILED_PERMANENT, status=InvocationStatus.FAILED_PERMANENT, error=error, progress="\x00")
    )
    assert (await invocation.row())["error"] == {"type": "Bad\ufffdError", "message": "half a pair \ufffd"}


async def test_what_no_text_can_hold_is_replaced_in_a_reason(invocation: Invocation) -> None:
    outcome = Outcome(
        invocation_id=invocation.task.invocation_id, status=InvocationStatus.FAILED, reason="\x00 and \ud800"
    )
    await close_event(
        invocation.deployment.database,
        invocation.event_id,
        outcomes={outcome.invocation_id: outcome},
        closed_by="workflow",
    )

    assert (await invocation.row())["error"] == {"type": "FAILED", "message": "\ufffd and \ufffd"}


async def test_a_skip_is_audited_and_happens_once(invocation: Invocation) -> None:
    async with invocation.deployment.database.connection() as connection:
        answers = [await invocations.skip(connection, invocation.task, "when is false: x") for _ in range(2)]

    assert answers == [True, False]
    assert await invocation.phases() == ["SKIPPED"]
    row = await invocation.row()
    assert (row["status"], row["skipped_reason"], row["error"]) == ("SKIPPED", "when is false: x", None)


async def test_an_input_is_kept_once(invocation: Invocation) -> None:
    async with invocation.deployment.database.connection() as connection:
        for value in (b"first", b"second"):
            await invocations.keep_input(connection, invocation.task.invocation_id, value)

    assert (await invocation.row())["input_sealed"] == b"first"


async def _until_somebody_waits(deployment: Deployment) -> None:
    async with asyncio.timeout(5):
        while not await deployment.rows(
            "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ):
            await asyncio.sleep(0.01)

"""Steps that wait for a person's decision."""

import asyncio
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

import pytest

from activities.steps import StepActivities
from latchflow.errors import ConflictError, LatchflowError
from latchflow.model import InvocationStatus, Outcome
from latchflow.store import approvals, invocations
from latchflow.store.approvals import Verdict
from latchflow.temporal.waking import Waker
from tests.support.execution import Step
from tests.workflow.conftest import KeepHistory
from tests.workflow.engine import Engine

AFTER = Step(action="echo", name="after", sort_order=1, input={"by": "steps.ask.output.by"})
TELL = Step(action="echo", name="tell", is_failure_step=True, input={"why": "steps.ask.error.message"})


def _ask(**wait: Any) -> Step:
    return Step(name="ask", kind="approval", wait=wait)


async def _waiting(engine: Engine, event_id: UUID) -> dict[str, Any]:
    async with asyncio.timeout(10):
        while (row := (await engine.deployment.steps(event_id))["ask"])["status"] != "WAITING":
            await asyncio.sleep(0.01)
    return row


async def _decide(
    engine: Engine,
    row: dict[str, Any],
    decision: Literal["approve", "reject"] = "approve",
    *,
    comment: str | None = None,
    by: str = "ada@example.org",
    wakes: bool = True,
) -> None:
    """What the API does."""
    waker = Waker(engine.deployment.database, engine.client)
    async with engine.deployment.database.transaction() as connection:
        await approvals.decide(connection, row["id"], Verdict(decision=decision, comment=comment, by=by), limits=None)
    if wakes:
        waker.wake_soon(row["id"])
        await waker.close()


async def test_when_it_is_approved_the_run_goes_on_and_later_steps_read_who_did(
    engine: Engine, keep_history: KeepHistory
) -> None:
    async with engine.worker():
        event_id = await engine.fire([_ask(approvers=["ada@example.org"]), AFTER, TELL])
        row = await _waiting(engine, event_id)
        await _decide(engine, row, by="Ada@Example.org", comment="looks right")

        assert await engine.finish(event_id) == "SUCCEEDED"
    await keep_history("approved", event_id)

    assert (row["waiting_for"], row["next_attempt_at"], row["pending_deadline"]) == ("decision", None, None)
    assert await engine.deployment.statuses(event_id) == {"ask": "SUCCEEDED", "after": "SUCCEEDED", "tell": "SKIPPED"}
    assert await engine.deployment.output(event_id, "after") == {"by": "Ada@Example.org"}
    output = await engine.deployment.output(event_id, "ask")
    assert (output["decision"], output["comment"]) == ("approve", "looks right")
    assert datetime.fromisoformat(output["at"]).tzinfo is not None
    assert await engine.deployment.phases(event_id, "ask") == ["WAITING", "SUCCEEDED"]
    (entry,) = await engine.deployment.rows(
        "SELECT actor, detail, trigger_event_id FROM audit_entries WHERE kind = 'admin' AND invocation_id = %s",
        row["id"],
    )
    assert (entry["actor"], entry["trigger_event_id"]) == ("Ada@Example.org", event_id)
    assert (entry["detail"]["object"], entry["detail"]["operation"]) == ("approval", "approve")


async def test_when_it_is_rejected_later_steps_are_skipped_and_those_for_a_failure_run(
    engine: Engine, keep_history: KeepHistory
) -> None:
    async with engine.worker():
        event_id = await engine.fire([_ask(), AFTER, TELL])
        row = await _waiting(engine, event_id)
        await _decide(engine, row, "reject", comment="too dear")

        assert await engine.finish(event_id) == "FAILED"
    await keep_history("rejected", event_id)

    statuses = await engine.deployment.statuses(event_id)
    assert statuses == {"ask": "FAILED_PERMANENT", "after": "SKIPPED", "tell": "SUCCEEDED"}
    assert await engine.deployment.output(event_id, "tell") == {"why": "Rejected by ada@example.org: too dear"}
    assert (await engine.deployment.steps(event_id))["ask"]["error"]["type"] == "Rejected"


@pytest.mark.parametrize(
    ("on_timeout", "status", "event_status"),
    [
        ("approve", "SUCCEEDED", "SUCCEEDED"),
        ("reject", "FAILED_PERMANENT", "FAILED"),
        ("fail", "TIMED_OUT", "FAILED"),
        (None, "TIMED_OUT", "FAILED"),
    ],
)
async def test_when_nobody_decides_in_time_on_timeout_does(
    engine: Engine, on_timeout: str | None, status: str, event_status: str
) -> None:
    wait = {"timeout": "PT0.5S"} | ({"onTimeout": on_timeout} if on_timeout else {})
    async with engine.worker():
        event_id = await engine.fire([_ask(**wait)])
        waiting = await _waiting(engine, event_id)

        assert await engine.finish(event_id) == event_status
    row = (await engine.deployment.steps(event_id))["ask"]
    assert row["status"] == status
    assert timedelta(0) <= row["ended_at"] - waiting["pending_deadline"] < timedelta(seconds=2)
    assert (row["decision"]["decision"], row["decision"]["by"]) == (on_timeout or "fail", None)
    if status != "SUCCEEDED":
        assert row["error"] == {"type": "NotDecided", "message": "Nobody decided in time."}
    with pytest.raises(ConflictError, match="decided already: its timeout, because nobody had"):
        await _decide(engine, row)


async def test_a_decision_of_which_temporal_was_not_told_is_found_by_the_chore(engine: Engine) -> None:
    waker = Waker(engine.deployment.database, engine.client)
    async with engine.worker():
        event_id = await engine.fire([_ask()])
        await _decide(engine, await _waiting(engine, event_id), wakes=False)
        async with asyncio.timeout(10):
            while await waker.run_once() == 0:
                await asyncio.sleep(0.05)

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert await waker.run_once() == 0


async def test_of_many_decisions_at_once_the_first_one_holds(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([_ask()])
        row = await _waiting(engine, event_id)
        answers = await asyncio.gather(
            *(_decide(engine, row, "approve" if n % 2 else "reject", by=f"person-{n}") for n in range(8)),
            return_exceptions=True,
        )
        status = await engine.finish(event_id)

    refused = [answer for answer in answers if isinstance(answer, LatchflowError)]
    assert len(refused) == 7
    kept = (await engine.deployment.steps(event_id))["ask"]["decision"]
    assert status == {"approve": "SUCCEEDED", "reject": "FAILED"}[kept["decision"]]
    assert all(f"'{kept['by']}' decided {kept['decision']} at {kept['at']}" in answer.message for answer in refused)


async def test_an_approval_of_a_cancelled_event_says_that_it_was_cancelled(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([_ask()])
        row = await _waiting(engine, event_id)
        await engine.handle(event_id).cancel()

        assert await engine.finish(event_id) == "CANCELLED"
    with pytest.raises(ConflictError, match="its status is CANCELLED"):
        await _decide(engine, row)


async def test_a_decision_after_the_time_for_it_is_refused_though_no_worker_has_settled_it(engine: Engine) -> None:
    async with engine.worker():
        event_id = await engine.fire([_ask(timeout="PT1S", onTimeout="approve")])
        row = await _waiting(engine, event_id)
    await asyncio.sleep(1.1)

    with pytest.raises(ConflictError, match="was up at"):
        await _decide(engine, row, "reject")
    async with engine.worker():
        assert await engine.finish(event_id) == "SUCCEEDED"


async def test_a_decision_that_was_answered_holds_against_a_timeout_that_is_being_settled(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = invocations.lock

    async def decide_first(connection: Any, invocation_id: UUID) -> None:
        if (await engine.deployment.rows("SELECT decision FROM invocations"))[0]["decision"] is None:
            await engine.deployment.rows("UPDATE invocations SET pending_deadline = now() + interval '1 minute'")
            await _decide(engine, {"id": invocation_id}, "reject", wakes=False)
            await engine.deployment.rows("UPDATE invocations SET pending_deadline = now() - interval '1 minute'")
        await lock(connection, invocation_id)

    async with engine.worker():
        event_id = await engine.fire([_ask(timeout="PT0.5S", onTimeout="approve")])
        await _waiting(engine, event_id)
        monkeypatch.setattr(invocations, "lock", decide_first)

        assert await engine.finish(event_id) == "FAILED"
    assert (await engine.deployment.steps(event_id))["ask"]["decision"]["by"] == "ada@example.org"


async def test_a_worker_that_dies_after_it_settled_an_approval_changes_nothing(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle, deaths = StepActivities._settle_approval, [1]

    async def dying(self: StepActivities, invocation_id: UUID) -> Outcome:
        outcome = await settle(self, invocation_id)
        if deaths and outcome.status is InvocationStatus.SUCCEEDED:
            deaths.pop()
            raise RuntimeError("the worker died here")
        return outcome

    monkeypatch.setattr(StepActivities, "_settle_approval", dying)
    async with engine.worker():
        event_id = await engine.fire([_ask(), AFTER])
        await _decide(engine, await _waiting(engine, event_id))

        assert await engine.finish(event_id) == "SUCCEEDED"
    assert deaths == []
    assert await engine.deployment.phases(event_id, "ask") == ["WAITING", "SUCCEEDED"]


async def test_each_item_of_a_list_is_approved_for_itself(engine: Engine) -> None:
    each = Step(name="ask", kind="approval", for_each="[1, 2]", wait={})
    async with engine.worker():
        event_id = await engine.fire([each])
        async with asyncio.timeout(10):
            while [row["status"] for row in await engine.deployment.items(event_id, "ask")] != ["WAITING"] * 2:
                await asyncio.sleep(0.01)
        first, second = await engine.deployment.items(event_id, "ask")
        await _decide(engine, first)
        await _decide(engine, second, "reject")

        assert await engine.finish(event_id) == "PARTIAL_FAILURE"


@pytest.mark.parametrize("wait", [{"timeout": "soon"}, {"timeout": "P2000D"}])
async def test_an_approval_that_cannot_wait_fails_for_good(engine: Engine, wait: dict[str, str]) -> None:
    event_id, status = await engine.run([_ask(**wait)])

    assert status == "FAILED"
    row = (await engine.deployment.steps(event_id))["ask"]
    assert (row["status"], row["error"]["type"]) == ("FAILED_PERMANENT", "InvalidWait")

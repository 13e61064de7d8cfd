"""The one way in, on a real PostgreSQL, with a starter that does as it is told."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from temporalio.service import RPCError, RPCStatusCode

from latchflow.errors import ConflictError, InvalidInputError, NotFoundError, TooLargeError
from latchflow.names import event_id_of_key
from latchflow.store import places
from latchflow.temporal.closing import close_event
from latchflow.temporal.dispatch import MAX_CONTEXT_BYTES, Dispatcher, Firing
from tests.support.execution import Deployment, Starts, Step

_STEPS = [Step(action="do", name="one")]
_AWAY = RPCError("away", RPCStatusCode.UNAVAILABLE, b"")
_REFUSED = RPCError("too large", RPCStatusCode.INVALID_ARGUMENT, b"")


@pytest.fixture
def starts() -> Starts:
    return Starts()


@pytest.fixture
async def dispatcher(deployment: Deployment, starts: Starts) -> AsyncIterator[Dispatcher]:
    dispatcher = Dispatcher(deployment.database, deployment.keyring, starts)
    yield dispatcher
    await dispatcher.close()


async def trigger_phases(deployment: Deployment) -> list[str]:
    rows = await deployment.rows("SELECT phase FROM audit_entries WHERE kind = 'trigger' ORDER BY seq")
    return [row["phase"] for row in rows]


async def created(deployment: Deployment) -> int:
    (row,) = await deployment.rows("SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM event_keys) AS n")
    return int(row["n"])


def body(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


async def test_a_firing_becomes_an_event_with_its_manifest_and_an_audit_entry(
    deployment: Deployment, dispatcher: Dispatcher, starts: Starts
) -> None:
    trigger_id = await deployment.define([*_STEPS, Step(action="do", name="two", sort_order=1)])
    accepted = await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={"a": "\x00ü"}, invoker="ada"))
    await dispatcher.close()
    event = await deployment.event(accepted.event_id)

    assert not accepted.is_duplicate
    assert starts.started == [accepted.event_id]
    assert (event["status"], event["invoker"], event["workflow_id"]) == ("RUNNING", "ada", f"event:{accepted.event_id}")
    assert deployment.keyring.open_json(event["context_sealed"], places.event_context(accepted.event_id)) == {
        "a": "\x00ü"
    }
    assert await deployment.statuses(accepted.event_id) == {"one": "PENDING", "two": "PENDING"}
    assert await trigger_phases(deployment) == ["SUCCEEDED"]


async def test_twenty_deliveries_of_one_key_at_once_make_one_event(
    deployment: Deployment, dispatcher: Dispatcher, starts: Starts
) -> None:
    trigger_id = await deployment.define(_STEPS)
    firing = Firing(trigger_id=trigger_id, context={}, key="order-1")
    accepted = await asyncio.gather(*(dispatcher.dispatch(firing) for _ in range(20)))
    await dispatcher.close()

    assert {answer.event_id for answer in accepted} == {event_id_of_key(trigger_id, "order-1")}
    assert [answer.is_duplicate for answer in accepted].count(False) == 1
    assert starts.started == [accepted[0].event_id]
    assert sorted(await trigger_phases(deployment)) == ["DUPLICATE"] * 19 + ["SUCCEEDED"]
    assert (await deployment.event(accepted[0].event_id))["deliveries"] == 20


async def test_without_a_key_every_firing_is_an_event_of_its_own(
    deployment: Deployment, dispatcher: Dispatcher
) -> None:
    trigger_id = await deployment.define(_STEPS)
    accepted = [await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={})) for _ in range(2)]

    assert accepted[0].event_id != accepted[1].event_id


async def test_two_triggers_may_use_the_same_key(deployment: Deployment, dispatcher: Dispatcher) -> None:
    accepted = [
        await dispatcher.dispatch(Firing(trigger_id=await deployment.define(_STEPS), context={}, key="same"))
        for _ in range(2)
    ]

    assert [answer.is_duplicate for answer in accepted] == [False, False]


async def test_an_unsigned_key_that_comes_again_with_another_body_is_a_conflict_and_audited(
    deployment: Deployment, dispatcher: Dispatcher
) -> None:
    trigger_id = await deployment.define(_STEPS)
    await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}, key="k", body_hash=body("one")))

    with pytest.raises(ConflictError, match="another body"):
        await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}, key="k", body_hash=body("two")))
    again = await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}, key="k", body_hash=body("one")))
    assert again.is_duplicate
    assert await trigger_phases(deployment) == ["SUCCEEDED", "REJECTED", "DUPLICATE"]
    assert await created(deployment) == 2


async def test_a_signed_key_is_a_duplicate_whatever_the_body(deployment: Deployment, dispatcher: Dispatcher) -> None:
    trigger_id = await deployment.define(_STEPS)
    await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={"a": 1}, key="k"))

    assert (await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={"a": 2}, key="k"))).is_duplicate


async def test_a_disabled_trigger_accepts_nothing(deployment: Deployment, dispatcher: Dispatcher) -> None:
    trigger_id = await deployment.define(_STEPS, is_enabled=False)

    with pytest.raises(ConflictError, match="disabled"):
        await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}, key="k"))
    assert await created(deployment) == 0


async def test_an_unknown_trigger_is_not_found(deployment: Deployment, dispatcher: Dispatcher) -> None:
    with pytest.raises(NotFoundError):
        await dispatcher.dispatch(Firing(trigger_id=uuid4(), context={}))


async def test_a_context_may_have_512_kibibytes_and_no_byte_more(
    deployment: Deployment, dispatcher: Dispatcher
) -> None:
    trigger_id = await deployment.define(_STEPS)
    room = MAX_CONTEXT_BYTES - len('{"a":""}')
    await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={"a": "ü" * (room // 2)}))

    with pytest.raises(TooLargeError):
        await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={"a": "ü" * (room // 2) + "x"}))


@pytest.mark.parametrize(
    "fields",
    [
        {"context": {"a": "\ud800"}},
        {"context": {"a": float("nan")}},
        {"context": {"a": complex(1, 2)}},
        {"context": {}, "metadata": {"a": "\ud800"}},
        {"context": {}, "metadata": {"a": "\x00"}},
        {"context": {}, "metadata": {"deep": [{"\x00": 1}]}},
        {"context": {}, "metadata": {"a": {1, 2}}},
        {"context": {"a": json.loads("[" * 102 + "]" * 102)}},
        {"context": {}, "key": "\ud800"},
        {"context": {}, "key": "\x00"},
    ],
    ids=repr,
)
async def test_what_cannot_be_kept_is_refused_and_creates_nothing(
    deployment: Deployment, dispatcher: Dispatcher, fields: dict[str, Any]
) -> None:
    trigger_id = await deployment.define(_STEPS)

    with pytest.raises(InvalidInputError):
        await dispatcher.dispatch(Firing(trigger_id=trigger_id, **fields))
    assert await created(deployment) == 0
    assert await trigger_phases(deployment) == []


async def test_a_text_that_only_looks_like_an_escaped_nul_is_kept(
    deployment: Deployment, dispatcher: Dispatcher
) -> None:
    trigger_id = await deployment.define(_STEPS)
    accepted = await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}, metadata={"a": "\\u0000"}))

    assert (await deployment.event(accepted.event_id))["metadata"] == {"a": "\\u0000"}


async def test_an_event_that_owes_nothing_is_ignored_and_starts_nothing(
    deployment: Deployment, dispatcher: Dispatcher, starts: Starts
) -> None:
    accepted = await dispatcher.dispatch(Firing(trigger_id=await deployment.define(), context={}))
    await dispatcher.close()
    event = await deployment.event(accepted.event_id)

    assert (event["status"], event["closed_by"], event["workflow_id"]) == ("IGNORED", "dispatch", None)
    assert starts.started == []
    assert await dispatcher.drain(older_than_seconds=-1) == 0
    await deployment.check_accounts(accepted.event_id)


async def test_when_the_audit_cannot_be_written_there_is_no_event_either(
    deployment: Deployment, dispatcher: Dispatcher
) -> None:
    trigger_id = await deployment.define(_STEPS)
    await asyncio.to_thread(_break_audit, deployment)

    with pytest.raises(Exception, match="broken for the test"):
        await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}, key="k"))
    assert await created(deployment) == 0


async def test_an_event_survives_that_temporal_is_away_and_is_started_by_the_drainer(
    deployment: Deployment, dispatcher: Dispatcher, starts: Starts
) -> None:
    starts.failure = _AWAY
    accepted = await dispatcher.dispatch(Firing(trigger_id=await deployment.define(_STEPS), context={}))
    await dispatcher.close()
    assert await dispatcher.drain(older_than_seconds=-1) == 0
    assert (await deployment.event(accepted.event_id))["start_confirmed_at"] is None
    starts.failure = None

    assert await dispatcher.drain() == 0, "it is not five seconds old"
    assert await dispatcher.drain(older_than_seconds=-1) == 1
    assert await dispatcher.drain(older_than_seconds=-1) == 0
    event = await deployment.event(accepted.event_id)
    assert (event["status"], event["start_confirmed_at"] is None) == ("RUNNING", False)


async def test_events_that_temporal_refuses_keep_no_other_from_starting(
    deployment: Deployment, dispatcher: Dispatcher, starts: Starts
) -> None:
    starts.failure = _AWAY
    trigger_id = await deployment.define(_STEPS)
    waiting = [(await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}))).event_id for _ in range(45)]
    await dispatcher.close()
    starts.failure = None
    starts.refused = dict.fromkeys(waiting[:40], _REFUSED)

    assert await dispatcher.drain(older_than_seconds=-1) == 5
    assert starts.started == waiting[40:]


async def test_an_event_that_temporal_will_never_take_ends_failed_with_the_reason(
    deployment: Deployment, dispatcher: Dispatcher, starts: Starts
) -> None:
    starts.failure = RPCError("Blob data size exceeds limit.", RPCStatusCode.INVALID_ARGUMENT, b"")
    trigger_id = await deployment.define(_STEPS)

    event_id = (await dispatcher.dispatch(Firing(trigger_id=trigger_id, context={}))).event_id
    await dispatcher.close()

    event = await deployment.event(event_id)
    assert (event["status"], event["closed_by"]) == ("FAILED", "dispatch")
    assert "Blob data size exceeds limit" in event["closed_reason"]
    await deployment.check_accounts(event_id)
    starts.failure = None
    assert await dispatcher.drain(older_than_seconds=-1) == 0


async def test_a_start_that_was_confirmed_late_does_not_open_a_closed_event(
    deployment: Deployment, dispatcher: Dispatcher, starts: Starts
) -> None:
    starts.failure = _AWAY
    accepted = await dispatcher.dispatch(Firing(trigger_id=await deployment.define(_STEPS), context={}))
    await dispatcher.close()
    await close_event(deployment.database, accepted.event_id, outcomes={}, closed_by="workflow")
    starts.failure = None

    assert await dispatcher.drain(older_than_seconds=-1) == 0
    await deployment.check_accounts(accepted.event_id)


def _break_audit(deployment: Deployment) -> None:
    with psycopg.connect(deployment.urls.owner_url, autocommit=True) as connection:
        connection.execute(
            """
            CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE EXCEPTION 'broken for the test'; END $$
            """
        )
        connection.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON audit_entries FOR EACH ROW EXECUTE FUNCTION refuse()"
        )

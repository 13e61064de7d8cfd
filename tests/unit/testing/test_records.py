from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

import pytest

from latchflow.runtime.guard import Intent, ServiceCall
from latchflow.sdk import ServiceError
from latchflow.testing import MemoryRecords

_ID = UUID(int=1)
_INTENT = Intent(service="email.send", ordinal=1, key="k/email.send/1", target="00", content="01")
_CALL = ServiceCall(
    service="email.send", requested_scopes=(), granted_scopes=(), outcome="intended", actor_id=None, detail={}
)


async def test_an_attempt_that_was_overtaken_begins_nothing_and_hands_nothing_over() -> None:
    records = MemoryRecords()
    older = records.attempt(_ID)
    await older.begin(_INTENT, _CALL)
    records.attempt(_ID)

    with pytest.raises(ServiceError, match="over") as caught:
        await older.via(_INTENT, "letter", live_until=datetime.now(UTC))
    assert caught.value.kind == "denied"
    with pytest.raises(ServiceError, match="over"):
        await older.begin(replace(_INTENT, key="k/email.send/2"), _CALL)


async def test_an_attempt_that_has_ended_begins_nothing() -> None:
    attempt = MemoryRecords().attempt(_ID)
    attempt.end()

    with pytest.raises(ServiceError, match="over"):
        await attempt.begin(_INTENT, _CALL)


async def test_what_is_done_stays_done_and_a_slower_attempt_undoes_nothing() -> None:
    records = MemoryRecords()
    older = records.attempt(_ID)
    await older.begin(_INTENT, _CALL)
    newer = records.attempt(_ID)
    prior = await newer.begin(_INTENT, _CALL)

    await older.finish(_INTENT, _CALL, "failed", None)
    states = [records.effects[_INTENT.key].state]
    await older.finish(_INTENT, _CALL, "done", b"{}")
    await newer.finish(_INTENT, _CALL, "failed", None)
    states.append(records.effects[_INTENT.key].state)

    assert prior.state == "intended"
    assert states == ["intended", "done"]
    assert records.effects[_INTENT.key].result == b"{}"

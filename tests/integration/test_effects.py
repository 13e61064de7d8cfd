"""Effects outside happen once, or the record says that nobody knows: through the real guard, ledger and HTTP."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from signal import SIGKILL
from typing import Any

import pytest

from activities.recording import Recorder
from latchflow.runtime.guard import Backends, Intent, ServiceCall
from latchflow.sdk import HttpResponse, ServiceError
from latchflow.services.egress import EgressGuard
from latchflow.services.http import GuardedHttp
from tests.support.execution import Deployment
from tests.support.invocations import Attempt, Invocation
from tests.support.killed_attempts import request_of
from tests.support.receiver import Receiver
from tests.support.services import NO_SERVICES

KILLS = 20
INTENT = Intent(service="email.send", ordinal=1, key="k/email.send/1", target="00" * 32, content="01" * 32)
CALL = ServiceCall(
    service="email.send", requested_scopes=(), granted_scopes=(), outcome="intended", actor_id=None, detail={}
)


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    running = Receiver()
    yield running
    running.close()


@pytest.fixture
async def backends() -> AsyncIterator[Backends]:
    http = GuardedHttp(EgressGuard("127.0.0.1"))
    yield replace(NO_SERVICES, http=http)
    await http.aclose()


async def send(attempt: Attempt, backends: Backends, url: str, *, keyed: bool) -> HttpResponse | ServiceError:
    """What the plugin sees of one request."""
    request = request_of(url, attempt.invocation_id, keyed=keyed)
    try:
        return await attempt.services(backends).http.request(request)
    except ServiceError as error:
        return error


@pytest.mark.parametrize("times", [50, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(400)])])
async def test_a_receiver_that_knows_the_key_and_drops_every_connection_is_asked_again_and_acts_once(
    deployment: Deployment, backends: Backends, receiver: Receiver, times: int
) -> None:
    async def one() -> str:
        invocation = await Invocation.open(deployment)
        url = receiver.url(invocation.id, "first")
        first = await invocation.attempt()
        dropped = await send(first, backends, url, keyed=True)
        assert isinstance(dropped, ServiceError)
        assert dropped.is_retryable
        await first.end("RETRYING")
        second = await invocation.attempt()
        answer = await send(second, backends, url, keyed=True)
        assert isinstance(answer, HttpResponse)
        # A third attempt, as after a lost record, gets the stored answer.
        await second.end("RETRYING")
        assert await send(await invocation.attempt(), backends, url, keyed=True) == answer
        return str(invocation.id)

    sent = await many(one, times)

    effects, requests = receiver.effects(), receiver.requests()
    assert {effects[identifier] for identifier in sent} == {1}
    assert {requests[identifier] for identifier in sent} == {2}


@pytest.mark.parametrize("times", [50, pytest.param(1000, marks=[pytest.mark.long, pytest.mark.timeout(400)])])
async def test_a_receiver_without_a_key_that_drops_every_connection_is_never_asked_again(
    deployment: Deployment, backends: Backends, receiver: Receiver, times: int
) -> None:
    async def one() -> str:
        invocation = await Invocation.open(deployment)
        url = receiver.url(invocation.id, "always")
        for _ in range(3):  # more attempts than there would be: this kind of error ends the invocation
            attempt = await invocation.attempt()
            error = await send(attempt, backends, url, keyed=False)
            assert isinstance(error, ServiceError)
            assert error.kind == "outcome_unknown"
            await attempt.end("RETRYING")
        return str(invocation.id)

    sent = await many(one, times)

    requests = receiver.requests()
    assert {requests[identifier] for identifier in sent} == {1}


async def test_a_definition_that_says_resend_is_done_again_until_it_is_answered(
    deployment: Deployment, backends: Backends, receiver: Receiver
) -> None:
    invocation = await Invocation.open(deployment, on_unknown="resend")
    url = receiver.url(invocation.id, "first")

    first = await invocation.attempt()
    dropped = await send(first, backends, url, keyed=False)
    await first.end("RETRYING")
    answer = await send(await invocation.attempt(), backends, url, keyed=False)

    assert isinstance(dropped, ServiceError)
    assert dropped.is_retryable
    assert isinstance(answer, HttpResponse)
    assert receiver.requests()[str(invocation.id)] == 2
    assert [effect["state"] for effect in await invocation.effects()] == ["done"]


@pytest.mark.parametrize(
    ("keyed", "on_unknown", "requests"), [(True, "fail", 2), (False, "fail", 1), (False, "resend", 2)]
)
async def test_a_process_that_is_killed_between_an_effect_and_its_record_doubles_nothing(
    deployment: Deployment, backends: Backends, receiver: Receiver, keyed: bool, on_unknown: str, requests: int
) -> None:
    invocations = [await Invocation.open(deployment, on_unknown=on_unknown) for _ in range(KILLS)]
    tasks = [{"invocation": str(one.id), "url": receiver.url(one.id), "keyed": keyed} for one in invocations]

    signals = await asyncio.to_thread(kill_each, deployment.urls.url, tasks)
    answers = [await send(await one.attempt(), backends, receiver.url(one.id), keyed=keyed) for one in invocations]

    assert signals == [SIGKILL] * KILLS
    asked, done = receiver.requests(), receiver.effects()
    assert {asked[str(one.id)] for one in invocations} == {requests}
    if keyed or on_unknown == "resend":
        assert {type(answer) for answer in answers} == {HttpResponse}
    else:
        assert {answer.kind for answer in answers if isinstance(answer, ServiceError)} == {"outcome_unknown"}
        assert len(answers) == KILLS
    if on_unknown == "fail":
        assert {done[str(one.id)] for one in invocations} == {1}


async def test_an_attempt_that_was_replaced_has_no_effect_any_more(
    deployment: Deployment, backends: Backends, receiver: Receiver
) -> None:
    invocation = await Invocation.open(deployment)
    older, newer = await invocation.attempt(), await invocation.attempt()
    url = receiver.url(invocation.id)

    refused = await send(older, backends, url, keyed=False)
    answer = await send(newer, backends, url, keyed=False)

    assert isinstance(refused, ServiceError)
    assert refused.kind == "denied"
    assert isinstance(answer, HttpResponse)
    assert receiver.requests()[str(invocation.id)] == 1


async def test_of_two_attempts_at_once_one_has_the_effect(
    deployment: Deployment, backends: Backends, receiver: Receiver
) -> None:
    for _ in range(20):
        invocation = await Invocation.open(deployment)
        older = await invocation.attempt()
        url = receiver.url(invocation.id)

        async def replace_it(invocation: Invocation = invocation, url: str = url) -> HttpResponse | ServiceError:
            return await send(await invocation.attempt(), backends, url, keyed=False)

        results = await asyncio.gather(send(older, backends, url, keyed=False), replace_it())

        assert receiver.requests()[str(invocation.id)] == 1
        kinds = {result.kind for result in results if isinstance(result, ServiceError)}
        assert kinds <= {"denied", "outcome_unknown"}


async def test_a_slow_attempt_cannot_undo_what_the_next_one_has_begun(deployment: Deployment) -> None:
    invocation = await Invocation.open(deployment)
    older = (await invocation.attempt()).records
    await older.begin(INTENT, CALL)
    newer = (await invocation.attempt()).records
    prior = await newer.begin(INTENT, CALL)

    with pytest.raises(ServiceError, match="over"):
        await older.via(INTENT, "letter", live_until=datetime.now(UTC))
    await older.finish(INTENT, CALL, "failed", None)
    states = [(await invocation.effects())[0]["state"]]
    await older.finish(INTENT, CALL, "done", b"{}")
    await newer.finish(INTENT, CALL, "failed", None)
    states.append((await invocation.effects())[0]["state"])

    assert prior.state == "intended"
    assert states == ["intended", "done"]


@pytest.mark.parametrize("state", ["done", "intended"])
async def test_what_an_effect_says_is_compared_as_long_as_the_same_code_says_it(
    deployment: Deployment, backends: Backends, receiver: Receiver, state: str
) -> None:
    invocation = await Invocation.open(deployment)
    first = (await invocation.attempt(code="old")).records
    await first.begin(INTENT, CALL)
    if state == "done":
        await first.finish(INTENT, CALL, "done", b"{}")
    reworded = replace(INTENT, content="02" * 32)

    same_code = await (await invocation.attempt(code="old")).records.begin(reworded, CALL)
    new_code = await (await invocation.attempt(code="new")).records.begin(reworded, CALL)
    elsewhere = await (await invocation.attempt(code="new")).records.begin(replace(INTENT, target="03" * 32), CALL)

    assert (same_code.state, new_code.state) == (state, state)
    assert same_code.is_another(reworded)
    assert not new_code.is_another(reworded)
    assert elsewhere.is_another(replace(INTENT, target="03" * 32))
    audited = await deployment.rows("SELECT detail ->> 'outcome' AS outcome FROM audit_entries WHERE kind = 'service'")
    outcomes = [row["outcome"] for row in audited if row["outcome"] != CALL.outcome]
    assert outcomes == (["fatal", "ok", "fatal"] if state == "done" else ["outcome_unknown", "fatal"])


class _ForgetfulRecorder(Recorder):
    """Its commits are carried out, and their answers lost once."""

    async def write(self, write: Any) -> Any:
        await super().write(write)
        return await super().write(write)


async def test_a_write_that_is_repeated_because_its_answer_was_lost_is_one_write(deployment: Deployment) -> None:
    invocation = await Invocation.open(deployment)
    records = (await invocation.attempt()).records
    records._recorder = _ForgetfulRecorder(deployment.database)

    begun = await records.begin(INTENT, CALL)
    await records.finish(INTENT, CALL, "done", b"{}")

    assert begun.state == "new"
    audited = await deployment.rows("SELECT detail ->> 'outcome' AS outcome FROM audit_entries WHERE kind = 'service'")
    assert [row["outcome"] for row in audited] == ["intended", CALL.outcome]


async def many(work: Any, times: int) -> list[str]:
    """Do it `times` times, twenty at once."""
    slots = asyncio.Semaphore(20)

    async def bounded() -> str:
        async with slots:
            result: str = await work()
            return result

    return list(await asyncio.gather(*(bounded() for _ in range(times))))


def kill_each(database_url: str, tasks: list[dict[str, Any]]) -> list[int]:
    """Make an attempt for each task in a process that does not survive it; the signals that ended them."""
    lines = "".join(json.dumps(task) + "\n" for task in tasks)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_attempts", database_url],
        input=lines,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [int(line) for line in done.stdout.split()]

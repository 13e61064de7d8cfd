import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from latchflow.runtime.guard import Intent, Prior, ServiceCall
from latchflow.runtime.guard.grant import Grant, Handle
from latchflow.runtime.isolation.loops import PluginLoop, Waiter
from latchflow.sdk import EmailAddress, EmailMessage, HttpRequest, HttpResponse, SendResult, ServiceError, Services
from latchflow.services.handover import OpenError, UnsettledError
from latchflow.testing import MemoryRecords
from tests.support.services import NO_SERVICES, grant_of, services_of

_MAIL = EmailMessage(
    to=[EmailAddress(address="a@example.org")], bcc=[EmailAddress(address="b@example.org")], subject="x"
)
_POST = HttpRequest(method="post", url="https://example.org/?token=x")
_EMAIL = ("email:send",)


@dataclass
class World:
    """What reached the backends, and what is on record."""

    records: MemoryRecords = field(default_factory=MemoryRecords)
    sent: list[str] = field(default_factory=list)
    error: BaseException | None = None
    statuses: list[int] = field(default_factory=list)
    found: SendResult | None = None
    can_find: bool = False
    timeouts: list[timedelta] = field(default_factory=list)

    async def send(self, message: EmailMessage, *, effect: Handle, deadline: datetime) -> SendResult:
        await effect.via("letter")
        self.sent.append(effect.key)
        if self.error:
            raise self.error
        return SendResult(provider_message_id="<1@x>", accepted_recipients=("a@example.org",))

    async def find(
        self, message: EmailMessage, *, idempotency_key: str, via: str | None, deadline: datetime
    ) -> SendResult | None:
        assert via == "letter"
        if not self.can_find:
            raise ServiceError("outcome_unknown", "nobody knows")
        return self.found

    async def request(self, request: HttpRequest) -> HttpResponse:
        self.sent.append(request.method)
        if request.timeout is not None:
            self.timeouts.append(request.timeout)
        if self.error:
            raise self.error
        return HttpResponse(status=self.statuses.pop(0) if self.statuses else 200, headers={}, content=b"\xff\x00")

    def pass_deadlines(self) -> None:
        """Let the time of every attempt so far have been up a while ago."""
        past = datetime.now(UTC) - timedelta(minutes=1)
        self.records.effects = {key: replace(prior, live_until=past) for key, prior in self.records.effects.items()}

    def attempt(self, granted: Sequence[str] = _EMAIL, declared: Sequence[str] = _EMAIL, **options: Any) -> Services:
        """The services of another attempt."""
        return self.granted(grant_of(granted=granted, declared=declared, records=self.records, **options))

    def granted(self, grant: Grant) -> Services:
        return services_of(replace(NO_SERVICES, email=self, http=self), grant)


async def test_a_granted_call_is_carried_out_and_audited_before_and_after() -> None:
    world = World()

    result = await world.attempt().email.send(_MAIL, actor_id="ada")

    assert result.provider_message_id == "<1@x>"
    announced, ended = world.records.calls
    assert (announced.outcome, ended.outcome) == ("intended", "ok")
    assert (ended.service, ended.actor_id, ended.requested_scopes) == ("email.send", "ada", _EMAIL)
    assert (list(ended.granted_scopes), ended.detail) == (["email:send"], {"recipients": 2})


@pytest.mark.parametrize(("granted", "declared"), [(_EMAIL, ()), ((), _EMAIL), ((), ()), (("users:read",), _EMAIL)])
async def test_a_scope_that_is_not_both_declared_and_granted_is_denied_and_audited(
    granted: Sequence[str], declared: Sequence[str]
) -> None:
    world = World()

    with pytest.raises(ServiceError, match="email:send") as caught:
        await world.attempt(granted, declared).email.send(_MAIL)
    assert caught.value.kind == "denied"
    assert world.sent == []
    assert [call.outcome for call in world.records.calls] == ["denied"]


async def test_asking_for_fewer_scopes_than_the_method_needs_does_not_help() -> None:
    world = World()

    with pytest.raises(ServiceError):
        await world.attempt((), ()).email.send(_MAIL, requested_scopes=())
    assert world.sent == []


async def test_asking_for_a_further_scope_needs_that_one_too() -> None:
    world = World()

    with pytest.raises(ServiceError, match="users:write"):
        await world.attempt().email.send(_MAIL, requested_scopes=("users:write",))
    assert world.records.outcomes == ["denied"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ServiceError("rate_limited", "slow"), "rate_limited"), (OSError("broken"), "outcome_unknown")],
)
async def test_the_outcome_of_a_failed_call_is_audited(error: Exception, outcome: str) -> None:
    world = World(error=error)

    with pytest.raises(type(error)):
        await world.attempt().email.send(_MAIL)
    assert world.records.outcomes == [outcome]


async def test_a_request_needs_no_scope_and_shows_no_address_in_the_audit() -> None:
    world = World()

    await world.attempt((), ()).http.request(_POST)

    call = world.records.calls[-1]
    assert (call.service, call.outcome, call.detail) == ("http.request", "ok", {"method": "POST"})


async def test_each_mail_of_an_attempt_has_a_key_of_its_own() -> None:
    world = World()
    services = world.attempt()
    await services.email.send(_MAIL)
    await services.email.send(_MAIL)

    assert world.sent == ["invocation/email.send/1", "invocation/email.send/2"]


async def test_the_next_attempt_gets_what_was_done_and_sends_nothing() -> None:
    world = World()
    first = await world.attempt().email.send(_MAIL)

    assert (await world.attempt().email.send(_MAIL)).provider_message_id == first.provider_message_id
    assert len(world.sent) == 1


async def test_an_answer_comes_back_byte_by_byte() -> None:
    world = World()
    first = await world.attempt().http.request(_POST)

    assert await world.attempt().http.request(_POST) == first
    assert world.sent == ["post"]


async def test_what_failed_is_sent_again_under_the_same_key() -> None:
    world = World(error=ServiceError("retryable", "away"))
    with pytest.raises(ServiceError):
        await world.attempt().email.send(_MAIL)
    world.error = None

    await world.attempt().email.send(_MAIL)

    assert world.sent == ["invocation/email.send/1"] * 2


async def test_an_answer_that_is_an_error_is_asked_for_again() -> None:
    world = World(statuses=[503, 200])

    answers = [(await world.attempt().http.request(_POST)).status for _ in range(3)]

    assert answers == [503, 200, 200]
    assert len(world.sent) == 2


@pytest.mark.parametrize("error", [ServiceError("outcome_unknown", "broken"), asyncio.CancelledError()])
async def test_what_may_have_happened_is_not_done_again(error: BaseException) -> None:
    world = World(error=error)
    with pytest.raises(type(error)):
        await world.attempt().email.send(_MAIL)
    world.error = None

    with pytest.raises(ServiceError) as caught:
        await world.attempt().email.send(_MAIL)
    assert caught.value.kind == "outcome_unknown"
    assert len(world.sent) == 1


async def test_a_definition_may_ask_for_it_to_be_done_again() -> None:
    world = World(error=ServiceError("outcome_unknown", "broken"))
    with pytest.raises(ServiceError) as caught:
        await world.attempt(resends_unknown=True).email.send(_MAIL)
    world.error = None

    await world.attempt(resends_unknown=True).email.send(_MAIL)

    assert caught.value.is_retryable
    assert world.records.outcomes == ["outcome_unknown", "ok"]
    assert len(world.sent) == 2


@pytest.mark.parametrize("error", [ServiceError("outcome_unknown", "broken"), UnsettledError("not there yet")])
async def test_even_then_a_provider_that_can_look_is_asked_first(error: ServiceError) -> None:
    found = SendResult(provider_message_id="<found@x>", accepted_recipients=("a@example.org",))
    world = World(error=error, can_find=True, found=found)
    with pytest.raises(ServiceError) as caught:
        await world.attempt(resends_unknown=True).email.send(_MAIL)
    world.error = None

    assert caught.value.is_retryable
    assert await world.attempt(resends_unknown=True).email.send(_MAIL) == found
    assert len(world.sent) == 1


async def test_an_effect_whose_answer_cannot_be_read_is_not_repeated() -> None:
    world = World(error=OpenError("fatal", "the answer is too large"))
    with pytest.raises(ServiceError, match="too large"):
        await world.attempt().http.request(_POST)
    world.error = None

    with pytest.raises(ServiceError) as caught:
        await world.attempt().http.request(_POST)
    assert caught.value.kind == "outcome_unknown"
    assert len(world.sent) == 1


async def test_a_receiver_that_knows_repetitions_is_asked_again() -> None:
    world = World(error=ServiceError("outcome_unknown", "broken"))
    request = replace(_POST, is_repeatable=True)
    with pytest.raises(ServiceError):
        await world.attempt().http.request(request)
    world.error = None

    assert (await world.attempt().http.request(request)).status == 200


@pytest.mark.parametrize("has_it", [True, False])
async def test_a_provider_that_can_look_is_asked_first(has_it: bool) -> None:
    found = SendResult(provider_message_id="<found@x>", accepted_recipients=("a@example.org",))
    world = World(error=ServiceError("outcome_unknown", "broken"), can_find=True, found=found if has_it else None)
    with pytest.raises(ServiceError):
        await world.attempt().email.send(_MAIL)
    world.error = None
    world.pass_deadlines()

    result = await world.attempt().email.send(_MAIL)

    assert result.provider_message_id == ("<found@x>" if has_it else "<1@x>")
    assert len(world.sent) == (1 if has_it else 2)
    assert (await world.attempt().email.send(_MAIL)).provider_message_id == result.provider_message_id


async def test_a_call_repeated_within_an_attempt_is_one_effect_for_the_next_attempt() -> None:
    world = World(error=ServiceError("retryable", "away"))
    services = world.attempt()
    with pytest.raises(ServiceError):
        await services.email.send(_MAIL)
    world.error = None
    await services.email.send(_MAIL)
    await services.email.send(replace(_MAIL, subject="another"))

    again = world.attempt()
    await again.email.send(_MAIL)
    await again.email.send(replace(_MAIL, subject="another"))

    assert world.sent == ["invocation/email.send/1", "invocation/email.send/1", "invocation/email.send/2"]


async def test_equal_calls_side_by_side_are_two_effects() -> None:
    world = World()
    services = world.attempt()

    await asyncio.gather(services.email.send(_MAIL), services.email.send(_MAIL))

    assert sorted(world.sent) == ["invocation/email.send/1", "invocation/email.send/2"]


async def test_what_may_have_happened_is_not_done_again_within_the_attempt_either() -> None:
    world = World(error=ServiceError("outcome_unknown", "broken"))
    services = world.attempt()
    for _ in range(3):
        with pytest.raises(ServiceError, match=r"broken|not known|knows"):
            await services.email.send(_MAIL)

    assert len(world.sent) == 1


async def test_an_answer_that_is_an_error_may_be_asked_for_again_within_the_attempt() -> None:
    world = World(statuses=[503, 200])
    services = world.attempt()

    answers = [(await services.http.request(_POST)).status for _ in range(2)]

    assert answers == [503, 200]
    assert (await world.attempt().http.request(_POST)).status == 200
    assert len(world.sent) == 2


async def test_another_call_in_the_place_of_one_that_was_done_is_refused() -> None:
    world = World()
    await world.attempt().http.request(_POST)

    with pytest.raises(ServiceError, match="same order") as caught:
        await world.attempt().http.request(replace(_POST, url="https://example.org/other"))
    assert caught.value.kind == "fatal"
    assert world.sent == ["post"]


async def test_a_request_ends_before_its_attempt_does() -> None:
    world = World()
    await world.attempt(seconds=10).http.request(_POST)
    await world.attempt(seconds=10).http.request(HttpRequest(method="GET", url="https://example.org"))
    await world.attempt(seconds=100).http.request(
        HttpRequest(method="GET", url="https://example.org", timeout=timedelta(seconds=3))
    )

    assert [round(timeout.total_seconds()) for timeout in world.timeouts] == [9, 9, 3]


async def test_a_thread_that_outlives_its_attempt_calls_nothing() -> None:
    world = World()
    grant = grant_of(granted=_EMAIL, declared=_EMAIL, records=world.records)
    grant.end()

    with pytest.raises(ServiceError, match="over"):
        await world.granted(grant).email.send(_MAIL)
    assert world.sent == []


async def test_a_call_from_the_plugins_loop_is_carried_out_and_audited_on_the_hosts() -> None:
    world, loop = World(), PluginLoop("acme")
    services = world.attempt()

    await loop.call(services.email.send, _MAIL)
    await loop.call(lambda: Waiter(loop)(services.email.send(_MAIL)))
    loop.close()

    assert set(world.records.threads) == {"MainThread"}
    assert len(world.sent) == 2


@dataclass
class _Slow(MemoryRecords):
    at: str = ""
    reached: threading.Event = field(default_factory=threading.Event)
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def begin(self, intent: Intent, call: ServiceCall) -> Prior:
        await self._wait("begin")
        return await super().begin(intent, call)

    async def finish(self, *values: Any) -> None:
        await self._wait("finish")
        await super().finish(*values)

    async def _wait(self, at: str) -> None:
        if at == self.at:
            self.reached.set()
            await self.may_go_on.wait()


@pytest.mark.parametrize(("at", "state", "outcome"), [("begin", "failed", "retryable"), ("finish", "done", "ok")])
async def test_a_time_limit_that_strikes_during_the_record_leaves_it_true(at: str, state: str, outcome: str) -> None:
    records, loop = _Slow(at=at), PluginLoop("acme")
    world = World(records=records)
    call = asyncio.create_task(loop.call(world.attempt().email.send, _MAIL))
    await asyncio.to_thread(records.reached.wait, 2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await loop.call(asyncio.sleep, 0)
    records.at = ""
    records.may_go_on.set()
    async with asyncio.timeout(2):
        while not records.outcomes:
            await asyncio.sleep(0)
    loop.close()

    assert records.outcomes == [outcome]
    assert [prior.state for prior in records.effects.values()] == [state]


async def test_what_is_called_after_a_wait_is_another_call_however_equal() -> None:
    world = World()
    before = grant_of(granted=_EMAIL, declared=_EMAIL, records=world.records)
    await world.granted(before).email.send(_MAIL)

    for _ in range(2):
        after = grant_of(granted=_EMAIL, declared=_EMAIL, records=world.records)
        after.calls_made.update(before.calls_made)
        await world.granted(after).email.send(_MAIL)

    assert world.sent == ["invocation/email.send/1", "invocation/email.send/2"]

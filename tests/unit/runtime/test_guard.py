import asyncio
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from latchflow.runtime.guard import Backends, Grant, GuardedServices, ServiceCall
from latchflow.runtime.loops import PluginLoop
from latchflow.sdk import EmailAddress, EmailMessage, HttpRequest, HttpResponse, SendResult, ServiceError

_MAIL = EmailMessage(
    to=[EmailAddress(address="a@example.org")], bcc=[EmailAddress(address="b@example.org")], subject="x"
)


@dataclass
class World:
    """What reached the backends, and what was audited on which thread."""

    sent: list[str] = field(default_factory=list)
    audited: list[tuple[ServiceCall, str]] = field(default_factory=list)
    error: Exception | None = None
    recording: threading.Event = field(default_factory=threading.Event)
    may_record: asyncio.Event | None = None

    async def send(self, message: EmailMessage, *, idempotency_key: str) -> SendResult:
        if self.error:
            raise self.error
        self.sent.append(idempotency_key)
        return SendResult(provider_message_id="<1@x>", accepted_recipients=("a@example.org",))

    async def request(self, request: HttpRequest) -> HttpResponse:
        self.sent.append(request.method)
        return HttpResponse(status=200, headers={}, content=b"")

    async def record(self, call: ServiceCall) -> None:
        self.recording.set()
        if self.may_record is not None:
            await self.may_record.wait()
        self.audited.append((call, threading.current_thread().name))

    def services(self, granted: Sequence[str] = (), declared: Sequence[str] = ()) -> GuardedServices:
        grant = Grant(
            granted_scopes=frozenset(granted),
            capability_scopes=frozenset(declared),
            idempotency_key="invocation",
            record=self.record,
            host_loop=asyncio.get_running_loop(),
        )
        return GuardedServices(Backends(email=self, http=self), grant)

    @property
    def outcomes(self) -> list[str]:
        return [call.outcome for call, _ in self.audited]


_EMAIL = ("email:send",)


async def test_a_granted_call_is_carried_out_and_audited_with_its_outcome() -> None:
    world = World()

    result = await world.services(_EMAIL, _EMAIL).email.send(_MAIL, actor_id="ada")

    assert result.provider_message_id == "<1@x>"
    ((call, _),) = world.audited
    assert (call.service, call.outcome, call.actor_id) == ("email.send", "ok", "ada")
    assert (call.requested_scopes, list(call.granted_scopes)) == (_EMAIL, ["email:send"])
    assert call.detail == {"recipients": 2}


@pytest.mark.parametrize(("granted", "declared"), [(_EMAIL, ()), ((), _EMAIL), ((), ()), (("users:read",), _EMAIL)])
async def test_a_scope_that_is_not_both_declared_and_granted_is_denied_and_audited(
    granted: Sequence[str], declared: Sequence[str]
) -> None:
    world = World()

    with pytest.raises(ServiceError, match="email:send") as caught:
        await world.services(granted, declared).email.send(_MAIL)
    assert caught.value.kind == "denied"
    assert world.sent == []
    assert world.outcomes == ["denied"]


async def test_asking_for_fewer_scopes_than_the_method_needs_does_not_help() -> None:
    world = World()

    with pytest.raises(ServiceError):
        await world.services().email.send(_MAIL, requested_scopes=())
    assert world.sent == []


async def test_asking_for_a_further_scope_needs_that_one_too() -> None:
    world = World()

    with pytest.raises(ServiceError, match="users:write"):
        await world.services(_EMAIL, _EMAIL).email.send(_MAIL, requested_scopes=("users:write",))
    assert world.outcomes == ["denied"]


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ServiceError("rate_limited", "slow"), "rate_limited"), (OSError("broken"), "fatal")],
)
async def test_the_outcome_of_a_failed_call_is_audited(error: Exception, outcome: str) -> None:
    world = World(error=error)

    with pytest.raises(type(error)):
        await world.services(_EMAIL, _EMAIL).email.send(_MAIL)
    assert world.outcomes == [outcome]


async def test_a_request_needs_no_scope_and_shows_no_address_in_the_audit() -> None:
    world = World()

    await world.services().http.request(HttpRequest(method="post", url="https://example.org/?token=x"))

    ((call, _),) = world.audited
    assert (call.service, call.outcome, call.detail) == ("http.request", "ok", {"method": "POST"})


async def test_each_mail_of_an_attempt_has_its_own_key_and_the_next_attempt_the_same_ones() -> None:
    world = World()
    for _ in range(2):
        services = world.services(_EMAIL, _EMAIL)
        await services.email.send(_MAIL)
        await services.email.send(_MAIL)

    assert world.sent == ["invocation/1", "invocation/2"] * 2


async def test_a_call_from_the_plugins_loop_is_audited_on_the_hosts() -> None:
    world, loop = World(), PluginLoop("acme")
    services = world.services(_EMAIL, _EMAIL)

    await loop.call(services.email.send, _MAIL)
    loop.close()

    assert [thread for _, thread in world.audited] == ["MainThread"]


async def test_a_time_limit_that_strikes_during_the_audit_leaves_no_effect_without_its_entry() -> None:
    world, loop = World(may_record=asyncio.Event()), PluginLoop("acme")
    call = asyncio.create_task(loop.call(world.services(_EMAIL, _EMAIL).email.send, _MAIL))
    await asyncio.to_thread(world.recording.wait, 2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert world.may_record is not None
    await loop.call(asyncio.sleep, 0)
    world.may_record.set()
    async with asyncio.timeout(2):
        while not world.audited:
            await asyncio.sleep(0)
    loop.close()

    assert world.outcomes == ["ok"]

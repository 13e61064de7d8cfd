"""What a later attempt makes of an effect that an earlier one announced."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from latchflow.runtime.guard import Backends
from latchflow.sdk import EmailAddress, EmailAttachment, EmailMessage, HttpRequest, ServiceError, Services
from latchflow.testing import MemoryRecords
from tests.support.services import NO_SERVICES, grant_of, services_of
from tests.unit.runtime.test_guard import _EMAIL, World

_MAIL = EmailMessage(
    to=[EmailAddress(address="a@example.org")],
    subject="x",
    text_body="y",
    attachments=[EmailAttachment(name="a.pdf", content=b"1")],
)
_POST = HttpRequest(
    method="POST",
    url="https://example.org/items",
    headers={"Content-Type": "text/plain", "X-Trace": "1"},
    secret_headers={"X-Key": "old"},
    content=b"a",
)


async def test_what_a_provider_does_not_have_is_not_sent_while_a_frozen_attempt_may_still_send_it() -> None:
    world = World(error=OSError("lost in the middle"), can_find=True)
    with pytest.raises(OSError, match="middle"):
        await world.attempt(seconds=100).email.send(_MAIL)
    world.error = None
    grant = grant_of(granted=_EMAIL, declared=_EMAIL, records=world.records)

    with pytest.raises(ServiceError) as caught:
        await world.granted(grant).email.send(_MAIL)

    assert caught.value.is_retryable
    assert caught.value.retry_after is not None
    assert timedelta(seconds=100) < caught.value.retry_after < timedelta(seconds=115)
    assert len(world.sent) == 1
    assert grant.quiet_at is not None
    assert [prior.state for prior in world.records.effects.values()] == ["intended"]
    world.pass_deadlines()
    await world.attempt().email.send(_MAIL)
    assert len(world.sent) == 2


async def test_an_attempt_that_saw_its_call_come_back_cannot_send_any_more_and_nobody_waits_for_it() -> None:
    world = World(error=ServiceError("outcome_unknown", "broken"), can_find=True)
    with pytest.raises(ServiceError):
        await world.attempt(seconds=100).email.send(_MAIL)
    world.error = None

    await world.attempt().email.send(_MAIL)

    assert len(world.sent) == 2


async def test_an_attempt_that_waits_for_a_lost_one_does_not_end_the_wait_of_the_next() -> None:
    world = World(error=OSError("lost in the middle"), can_find=True)
    with pytest.raises(OSError, match="middle"):
        await world.attempt(seconds=100).email.send(_MAIL)
    world.error = None

    for _ in range(2):
        with pytest.raises(ServiceError) as caught:
            await world.attempt().email.send(_MAIL)
        assert caught.value.is_retryable
    assert len(world.sent) == 1


@pytest.mark.parametrize(
    "another",
    [
        replace(_POST, content=b"c"),
        replace(_POST, content=None, json="a"),
        replace(_POST, query={"page": "2"}),
        replace(_POST, headers={"content-type": "text/html"}),
    ],
)
async def test_a_request_that_says_something_else_does_not_get_the_answer_to_an_earlier_one(
    another: HttpRequest,
) -> None:
    world = World()
    await world.attempt().http.request(_POST)

    with pytest.raises(ServiceError, match="never from the clock") as caught:
        await world.attempt().http.request(another)

    assert caught.value.kind == "fatal"
    assert world.records.outcomes[-1] == "fatal"


async def test_a_request_that_may_have_been_sent_is_not_repeated_in_other_words() -> None:
    world = World(error=ServiceError("outcome_unknown", "broken"))
    request = replace(_POST, is_repeatable=True)
    with pytest.raises(ServiceError):
        await world.attempt().http.request(request)
    world.error = None

    with pytest.raises(ServiceError) as caught:
        await world.attempt().http.request(replace(request, content=b"c"))
    assert caught.value.kind == world.records.outcomes[-1] == "outcome_unknown"
    assert len(world.sent) == 1


@pytest.mark.parametrize(
    "same",
    [
        replace(_POST, headers={"CONTENT-TYPE": "text/plain", "X-Trace": "2", "Authorization": "new"}),
        replace(_POST, secret_headers={"X-Key": "new"}),
        replace(_POST, timeout=timedelta(seconds=3)),
    ],
)
async def test_secrets_and_headers_about_the_exchange_may_change_between_attempts(same: HttpRequest) -> None:
    world = World()
    answer = await world.attempt().http.request(_POST)

    assert await world.attempt().http.request(same) == answer
    assert len(world.sent) == 1


@pytest.mark.parametrize("field", ["content", "json"])
async def test_each_attempt_may_name_a_callback_address_of_its_own(field: str) -> None:
    def request(token: str) -> HttpRequest:
        url = f"https://latchflow.example/callbacks/lfk_{token * 43}"
        said = {"json": {"callback": url}, "content": url.encode()}[field]
        return replace(_POST, **{"content": None, "json": None, field: said})  # type: ignore[arg-type]

    world = World()
    answer = await world.attempt().http.request(request("a"))

    assert await world.attempt().http.request(request("b")) == answer
    assert len(world.sent) == 1


async def test_what_failed_may_be_said_in_other_words() -> None:
    world = World(statuses=[422, 200])
    await world.attempt().http.request(_POST)

    assert (await world.attempt().http.request(replace(_POST, content=b"c"))).status == 200


@pytest.mark.parametrize(
    "another",
    [
        replace(_MAIL, subject="z"),
        replace(_MAIL, text_body="z"),
        replace(_MAIL, html_body="z"),
        replace(_MAIL, attachments=[EmailAttachment(name="b.pdf", content=b"1")]),
    ],
)
async def test_a_mail_that_says_something_else_is_not_taken_for_the_one_that_was_sent(another: EmailMessage) -> None:
    world = World()
    await world.attempt().email.send(_MAIL)

    with pytest.raises(ServiceError, match="never from the clock") as caught:
        await world.attempt().email.send(another)
    assert caught.value.kind == "fatal"


async def test_a_file_that_was_generated_anew_is_the_same_mail() -> None:
    world = World()
    await world.attempt().email.send(_MAIL)

    await world.attempt().email.send(replace(_MAIL, attachments=[EmailAttachment(name="a.pdf", content=b"2")]))
    assert len(world.sent) == 1


async def test_an_effect_from_before_contents_were_kept_is_told_by_where_it_went() -> None:
    world = World()
    await world.attempt().http.request(_POST)
    world.records.effects = {key: replace(one, content=None) for key, one in world.records.effects.items()}

    await world.attempt().http.request(replace(_POST, content=b"c"))
    assert len(world.sent) == 1


class _Switches:
    def __init__(self) -> None:
        self.states: list[bool] = []

    async def set_bundle_enabled(self, bundle_id: Any, is_enabled: bool, *, actor: str) -> None:
        self.states.append(is_enabled)


async def test_switching_the_other_way_is_not_taken_for_the_switch_that_was_done() -> None:
    switches, records = _Switches(), MemoryRecords()
    scope = ("bundles:toggle",)

    def attempt() -> Services:
        backends: Backends = replace(NO_SERVICES, resources=switches)  # type: ignore[arg-type]
        return services_of(backends, grant_of(granted=scope, declared=scope, records=records))

    bundle = "00000000-0000-4000-8000-000000000001"
    await attempt().resources.set_bundle_enabled(bundle, True)
    with pytest.raises(ServiceError, match="something else"):
        await attempt().resources.set_bundle_enabled(bundle, False)
    assert switches.states == [True]

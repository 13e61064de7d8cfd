"""A plugin that tries to get what nobody declared or granted, under the real loader, invoker and guard.

What Python in one process cannot prevent stands in SECURITY.md: these tricks stay inside the surface of the SDK.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from activities.endings import LONGEST_RETRY, retry_delay
from activities.heartbeat import Beat
from latchflow.model import PlannedStep
from latchflow.runtime.invoking.invoker import Failure, Success
from latchflow.services.egress import EgressGuard
from latchflow.services.http import GuardedHttp
from latchflow.store.attempts import Claimed
from latchflow.testing.harness import Harness, plugin_under_test
from latchflow.testing.runs import ActionRun
from tests.contract.hostile.acme_hostile.lies import Turning
from tests.unit.services.servers import http_server, reply

_FOLDER = Path(__file__).parent / "acme_hostile"
_SECRET = "hunter2-hunter2"
_OTHERS = "of-another-plugin-1"
_BUNDLE = UUID(int=7)


@pytest.fixture(scope="module")
def loaded() -> Iterator[Harness]:
    with plugin_under_test(_FOLDER) as harness:
        yield harness


@pytest.fixture
def harness(loaded: Harness) -> Harness:
    return Harness(loaded.source, loaded.registry, loaded.host)


def run(harness: Harness, trick: str, capability: str = "bare", **options: Any) -> ActionRun:
    config = {"trick": trick, "apiKey": _SECRET, **options.pop("config", {})}
    return harness.run(capability, config=config, **options)


def output(harness: Harness, trick: str, capability: str = "bare", **options: Any) -> Any:
    result = run(harness, trick, capability, **options).result
    assert isinstance(result, Success), result
    return result.output


def failure(harness: Harness, trick: str, capability: str = "bare") -> Failure:
    result = run(harness, trick, capability).result
    assert isinstance(result, Failure), result
    return result


def test_a_scope_that_the_capability_does_not_declare_is_denied_however_it_is_asked_for(harness: Harness) -> None:
    kinds = output(harness, "undeclared_scopes")

    assert kinds == [
        "denied",
        "denied",
        "denied",
        "validation",
        "validation",
        "validation",
        "denied",
        "denied",
        "denied",
    ]
    assert harness.services.email.sent == []
    assert harness.services.users.users == {}
    assert harness.services.resources.states == {}
    assert {call.granted_scopes == [] for call in harness.records.calls} == {True}


def test_a_text_that_equals_every_scope_is_none_of_them(harness: Harness) -> None:
    assert output(harness, "lying_scope", "mail") == ["denied"]
    assert harness.services.email.sent == []
    assert [type(scope) for scope in harness.records.calls[-1].requested_scopes] == [str, str]


def test_an_actor_that_would_forge_the_audit_is_refused(harness: Harness) -> None:
    assert output(harness, "forged_actors", "mail") == ["validation"] * 9
    assert harness.services.email.sent == []


@pytest.mark.parametrize("trick", ["mail_injection"])
def test_no_header_is_injected_into_a_mail(harness: Harness, trick: str) -> None:
    assert set(output(harness, trick, "mail")) == {"validation"}
    assert harness.services.email.sent == []


def test_a_mail_is_read_once_and_sent_as_it_was_checked(harness: Harness) -> None:
    assert output(harness, "mail_that_changes", "mail") == ["done"]
    (sent,) = harness.services.email.sent
    assert sent.headers == {"X-A": "harmless"}
    assert type(sent.headers) is dict


def test_no_header_is_injected_into_a_request(harness: Harness) -> None:
    assert set(output(harness, "http_injection")) == {"validation"}


def test_no_host_and_no_length_is_smuggled_into_a_request(harness: Harness) -> None:
    assert set(output(harness, "smuggled_headers")) == {"validation"}


def test_a_request_is_read_once_and_sent_as_it_was_checked(harness: Harness) -> None:
    assert output(harness, "headers_that_change") == ["done"]
    (request,) = harness.services.http.requests  # type: ignore[attr-defined]
    assert request.headers == {"X-A": "harmless"}


def test_credentials_in_a_url_and_other_schemes_are_refused(harness: Harness) -> None:
    assert set(output(harness, "credentials_in_urls")) == {"validation"}


@pytest.fixture
async def inner() -> AsyncIterator[Any]:
    async with http_server(reply(body=b"internal")) as server:
        yield server


async def test_a_redirect_to_a_private_address_is_not_followed(harness: Harness, inner: Any) -> None:
    targets = [inner.url, inner.url.replace("127.0.0.1", "localhost"), inner.url.replace("127.0.0.1", "2130706433")]
    for target in (*targets, "http://169.254.169.254/latest/meta-data", "http://[::ffff:127.0.0.1]/"):
        async with http_server(reply(302, location=target)) as outer:
            http = GuardedHttp(EgressGuard(f"127.0.0.1:{outer.port}"))
            backends = replace(harness.services.backends, http=http)
            kinds = await asyncio.to_thread(
                output, harness, "redirected", payload={"url": outer.url}, backends=backends
            )
            harness.host.run(http.aclose())
        assert kinds == ["denied"], target
    assert inner.received == []


def test_what_is_no_path_or_id_is_refused(harness: Harness) -> None:
    assert set(output(harness, "paths_out_of_the_bundle", "files")) == {"validation"}


def test_an_id_is_the_one_that_it_holds_not_the_one_that_it_shows(harness: Harness) -> None:
    bundle, path, kind, _ = output(harness, "another_id", "files")

    assert (bundle, path, kind) == (str(_BUNDLE), "a.txt", "str")
    assert set(harness.services.storage.contents) == {(_BUNDLE, "a.txt")}


def test_no_admin_is_invited_by_any_spelling(harness: Harness) -> None:
    kinds = output(harness, "inviting_admins", "people")

    assert kinds[:3] == ["denied"] * 3
    assert kinds[3:] == ["validation"] * 2
    assert harness.services.users.users == {}


def test_what_an_attempt_kept_opens_nothing_after_its_end(harness: Harness) -> None:
    harness.services.storage.contents[_BUNDLE, "big"] = b"x" * 200_000
    output(harness, "keeping", "files", payload={"bundle": str(_BUNDLE)})

    assert output(harness, "using_what_was_kept", "mail") == ["denied", "denied"]
    assert harness.services.email.sent == []


def test_nothing_public_leads_to_another_plugins_config_or_secrets(harness: Harness, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    toml = (_FOLDER / "plugin.toml").read_text().replace("acme-hostile", "acme-victim")
    (victim / "plugin.toml").write_text(toml)
    (victim / "__init__.py").write_text(_VICTIM)
    with plugin_under_test(victim) as other:
        other.run("keep", config={"apiKey": _OTHERS})

        # Backwards, for it sees its payload too.
        wanted = [text[::-1] for text in (_OTHERS, "keep_secret_function", _SECRET)]
        found = output(harness, "looking_around", payload={"wanted": wanted})

    assert found == [_SECRET], "its own secret is its own to see, and shows that it looks well"


_VICTIM = """
from latchflow.sdk import ActionCall, Plugin

plugin = Plugin()
SCHEMA = {"type": "object", "properties": {"apiKey": {"type": "string", "writeOnly": True}}}

@plugin.action("keep", display_name="Keep", config_schema=SCHEMA)
async def keep_secret_function(call: ActionCall) -> None:
    pass
"""


def test_what_an_attempt_changes_does_not_reach_the_next(harness: Harness) -> None:
    options: dict[str, Any] = {
        "config": {"nested": {"a": 1}},
        "payload": {"nested": {"a": 1}},
        "invocation_id": uuid4(),
    }
    seen = [output(harness, "changing_for_the_next", **options) for _ in range(2)]

    assert seen[0] == seen[1] == [{"a": 1}, {"a": 1}, _SECRET, *["read-only"] * 3]


def test_an_idempotency_key_is_the_invocations_own(harness: Harness) -> None:
    invocation_id = uuid4()
    output(harness, "another_key", "mail", invocation_id=invocation_id)

    assert list(harness.records.effects) == [f"{invocation_id}/email.send/1"]


def test_no_secret_and_no_terminal_code_gets_into_the_log(harness: Harness, capfd: pytest.CaptureFixture[str]) -> None:
    logged = run(harness, "logging_secrets").logs

    assert len(logged) == 3
    assert _SECRET not in str(logged)
    assert not any(code in str(value) for entry in logged for value in entry.values() for code in "\x1b\x07\r")


def test_a_flood_of_progress_is_one_progress(harness: Harness) -> None:
    assert output(harness, "flooding") == "flooded"
    beat = Beat()
    for number in range(10_000):
        beat.report({"number": number})
    assert beat.progress == {"number": 9_999}


class Twice(dict[str, Any]):
    """A progress that is small when it is measured."""

    def __init__(self, first: dict[str, Any], then: dict[str, Any]) -> None:
        super().__init__(first)
        self.contents = [first, then]

    def items(self) -> Any:
        return (self.contents.pop(0) if len(self.contents) > 1 else self.contents[0]).items()


def test_a_progress_is_kept_as_it_was_measured() -> None:
    beat = Beat()
    with pytest.raises(ValueError, match="bytes"):
        beat.report("x" * 40_000)
    beat.report(Twice({"a": "x"}, {"a": "x" * 10_000_000}))

    assert beat.progress == {"a": "x"}
    beat.report({"text": Turning("as it is")})
    assert beat.progress == {"text": "as it is"}


def test_an_exception_that_cannot_be_shown_is_a_failure_like_any_other(harness: Harness) -> None:
    shown = failure(harness, "mute_exception")

    assert (shown.error_type, shown.is_retryable) == ("Mute", True)
    assert "SystemExit" in shown.message


@pytest.mark.parametrize("trick", ["masked_exception", "secret_in_type"])
def test_no_secret_gets_into_an_error(harness: Harness, trick: str) -> None:
    shown = failure(harness, trick)

    assert _SECRET not in shown.error_type + shown.message
    assert "[secret]" in shown.error_type + shown.message


def test_a_huge_error_is_cut(harness: Harness) -> None:
    shown = failure(harness, "huge_error")

    assert len(shown.error_type) <= 200
    assert len(shown.message) <= 2000


def test_an_error_holds_no_terminal_codes(harness: Harness) -> None:
    shown = failure(harness, "terminal_codes")

    assert (shown.message + shown.error_type).isprintable() or "\ufffd" in shown.message
    assert not set("\x1b\x07\x9b\r\u202e\x00") & set(shown.message + shown.error_type)


def test_an_error_of_no_kind_is_a_failure_like_any_other(harness: Harness) -> None:
    shown = failure(harness, "error_of_no_kind")

    assert type(shown.error_type) is str
    assert _delay(shown) is None


def _delay(shown: Failure) -> timedelta | None:
    some_id = UUID(int=1)
    step = PlannedStep(
        invocation_id=some_id,
        step_id=some_id,
        name="one",
        sort_order=0,
        action_id=some_id,
        action_version=1,
        action_name="one",
        plugin="acme-hostile",
        capability_key="bare",
    )
    return retry_delay(shown, step, Claimed(number=1, counted_before=0, lost_before=0))


@pytest.mark.parametrize("trick", ["negative_wait", "endless_wait", "lying_wait", "wait_of_text"])
def test_a_wait_lies_between_none_and_a_day(harness: Harness, trick: str) -> None:
    shown = failure(harness, trick)
    delay = _delay(shown)

    assert shown.is_retryable
    assert delay is None or type(delay) is timedelta
    assert delay is None or timedelta(0) <= delay <= LONGEST_RETRY


@pytest.mark.parametrize("trick", ["nasty_result", "coroutine_output", "generator_output", "emitting"])
def test_an_answer_that_is_no_plain_data_is_a_failure(harness: Harness, trick: str) -> None:
    assert failure(harness, trick).message


def test_an_output_is_what_was_written_down_once(harness: Harness) -> None:
    shown = failure(harness, "shifty_output")

    assert "JSON" in shown.message


def test_the_plugin_still_works_after_all_of_this(harness: Harness) -> None:
    assert output(harness, "flooding") == "flooded"

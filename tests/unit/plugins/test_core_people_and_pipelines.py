"""``user.invite`` and ``pipeline.toggle`` under the harness that authors get."""

from collections.abc import Iterator
from uuid import UUID

import pytest

from latchflow.errors import InvalidInputError
from latchflow.runtime.invoking.invoker import Failure, Success
from latchflow.testing.harness import Harness, plugin_under_test
from tests.unit.house.sources import ROOT

_PIPELINE = "00000000-0000-4000-8000-000000000007"


@pytest.fixture(scope="module")
def loaded() -> Iterator[Harness]:
    with plugin_under_test(ROOT / "plugins" / "core") as harness:
        yield harness


@pytest.fixture
def harness(loaded: Harness) -> Harness:
    return Harness(loaded.source, loaded.registry, loaded.host)


def test_whom_the_config_names_is_invited(harness: Harness) -> None:
    result = harness.run("user.invite", config={"email": "ada@example.org"}).result

    assert isinstance(result, Success)
    (user,) = harness.services.users.users.values()
    assert result.output == {"userId": str(user.id), "status": "INVITED"}
    assert user.role == "EXECUTOR"


def test_the_sender_of_an_event_decides_whom_to_invite_only_where_the_config_says_so(harness: Harness) -> None:
    payload = {"email": "eve@example.org", "role": "ADMIN"}
    config = {"email": "ada@example.org"}

    harness.run("user.invite", config=config, payload=payload, is_payload_from_input=False)
    assert list(harness.services.users.users) == ["ada@example.org"]
    overridable = config | {"overridable": ["email"]}
    harness.run("user.invite", config=overridable, payload=payload, is_payload_from_input=False)
    assert sorted(harness.services.users.users) == ["ada@example.org", "eve@example.org"]


@pytest.mark.parametrize(
    "config", [{"role": "ADMIN"}, {"email": "x"}, {"email": "a@b.c\r\n"}, {"overridable": ["role"]}]
)
def test_a_config_that_gives_more_cannot_be_saved(harness: Harness, config: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        harness.run("user.invite", config=config)


def test_no_input_makes_an_admin(harness: Harness) -> None:
    result = harness.run("user.invite", payload={"email": "eve@example.org", "role": "ADMIN"}).result

    assert isinstance(result, Failure)
    assert (result.error_type, harness.services.users.users) == ("InvalidPayload", {})


def test_a_pipeline_is_switched(harness: Harness) -> None:
    result = harness.run("pipeline.toggle", config={"pipelineId": _PIPELINE, "isEnabled": False}).result

    assert isinstance(result, Success)
    assert result.output == {"pipelineId": _PIPELINE, "isEnabled": False}
    assert harness.services.resources.states == {("pipeline", UUID(_PIPELINE)): False}


@pytest.mark.parametrize("payload", [{}, {"pipelineId": _PIPELINE}, {"isEnabled": True}])
def test_both_fields_are_needed_at_the_call(harness: Harness, payload: dict[str, object]) -> None:
    result = harness.run("pipeline.toggle", payload=payload).result

    assert isinstance(result, Failure)
    assert result.error_type == "MissingField"


@pytest.mark.parametrize("payload", [{"isEnabled": "false"}, {"isEnabled": 0}, {"pipelineId": "x"}])
def test_what_an_input_brings_is_checked_again(harness: Harness, payload: dict[str, object]) -> None:
    config = {"pipelineId": _PIPELINE, "isEnabled": True}
    result = harness.run("pipeline.toggle", config=config, payload=payload).result

    assert isinstance(result, Failure)
    assert (result.error_type, harness.services.resources.states) == ("InvalidPayload", {})

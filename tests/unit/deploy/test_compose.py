import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from latchflow.cli.app import app
from latchflow.settings import Settings

ROOT = Path(__file__).parents[3]
# Read by Temporal's SDK, not by Settings.
_TEMPORAL = {"TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE"}
_OURS = ["migrate", "api", "worker"]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


def test_the_programs_are_all_there(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"postgres", "temporal", "migrate", "api", "worker"}


@pytest.mark.parametrize("name", _OURS)
def test_a_service_runs_a_verb_that_exists_with_settings_that_exist(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    aliases = {field.alias for field in Settings.model_fields.values()}

    program, verb = service["command"]

    assert program == "latchflow"
    assert verb in get_command(app).commands  # type: ignore[attr-defined]
    assert set(service["environment"]) - _TEMPORAL <= aliases


def test_only_the_migration_knows_the_owners_password(compose: dict[str, Any]) -> None:
    knowing = [name for name in _OURS if "LATCHFLOW_OWNER_PASSWORD" in str(compose["services"][name])]

    assert knowing == ["migrate"]


def test_ports_are_published_on_the_loopback_address_only(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", [])]

    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_what_must_be_up_first_says_when_it_is(compose: dict[str, Any]) -> None:
    services = compose["services"]
    needed = {
        other
        for service in services.values()
        for other, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_healthy"
    }

    assert needed == {"postgres", "temporal"}
    assert all("healthcheck" in services[name] for name in [*needed, "api", "worker"])


def test_the_example_names_every_variable_and_holds_no_secret() -> None:
    wanted = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    example = re.findall(r"^#?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), flags=re.MULTILINE)

    assert {name for name, _ in example} == wanted
    assert all(value == "" or value.isdigit() for _, value in example)


def test_the_roles_of_the_script_are_those_of_the_urls(compose: dict[str, Any]) -> None:
    script = (ROOT / "deploy" / "postgres-roles.sh").read_text()
    urls = [*compose["services"]["migrate"]["environment"].values()]

    roles = {match for url in urls for match in re.findall(r"postgresql://(\w+):", url)}

    assert roles == set(re.findall(r"CREATE ROLE (\w+)", script)) == {"latchflow_owner", "latchflow_app"}


def test_the_image_runs_without_root() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert re.findall(r"^USER (\w+)$", dockerfile, flags=re.MULTILINE) == ["latchflow"]

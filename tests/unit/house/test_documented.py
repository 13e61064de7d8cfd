"""The references say what the code has: nothing is missing there, and nothing more is promised."""

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import PurePath
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route
from typer.main import get_command

from api.app import ROUTERS, create_app
from api.auth import Requires, is_public
from latchflow.cli.app import app as cli
from latchflow.model import EventStatus, InvocationStatus, Phase, RunStatus
from latchflow.scopes import ALL, TOKEN_SCOPES
from latchflow.settings import Settings
from tests.unit.house.sources import ROOT, read, rows, section

REFERENCE = ROOT / "docs" / "reference"
_CODE = re.compile(r"`([^`]+)`")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")


def _first_codes(text: str) -> list[str]:
    return [code for row in rows(text) for code in _CODE.findall(row[0])]


def test_the_reference_of_settings_has_exactly_the_settings() -> None:
    text = read(REFERENCE / "settings.md")

    documented = _first_codes(text.partition("\n## ")[0])

    assert sorted(documented) == sorted(str(field.alias) for field in Settings.model_fields.values())


def test_the_reference_of_settings_gives_their_defaults() -> None:
    cells = {row[0].strip("`"): row[2] for row in rows(read(REFERENCE / "settings.md").partition("\n## ")[0])}
    expected = {
        str(field.alias): f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"
        for field in Settings.model_fields.values()
        if isinstance(field.default, bool | int | str) and field.default != ""
    }

    assert {alias: cells[alias] for alias in expected} == expected


def test_every_variable_of_the_example_environment_is_explained() -> None:
    names = re.findall(r"^#?([A-Z_]+)=", read(ROOT / ".env.example"), flags=re.MULTILINE)
    explained = set(_CODE.findall(read(REFERENCE / "settings.md")))

    assert names
    assert set(names) <= explained


@pytest.mark.parametrize(
    ("heading", "statuses"),
    [
        ("Events", EventStatus),
        ("Runs", RunStatus),
        ("Invocations", InvocationStatus),
        ("Attempts and the audit", Phase),
    ],
)
def test_the_reference_of_statuses_has_exactly_the_statuses(heading: str, statuses: type[StrEnum]) -> None:
    documented = _first_codes(section(read(REFERENCE / "statuses.md"), heading))

    assert sorted(documented) == sorted(statuses)


def test_the_reference_of_the_command_line_has_exactly_the_verbs() -> None:
    headings = re.findall(r"^## latchflow ([a-z]+)$", read(REFERENCE / "cli.md"), flags=re.MULTILINE)

    assert sorted(headings) == sorted(_commands(get_command(cli)))


@pytest.mark.parametrize("verb", sorted(get_command(cli).commands))  # type: ignore[attr-defined]
def test_the_reference_of_a_verb_has_exactly_its_options_and_verbs_below(verb: str) -> None:
    text = section(read(REFERENCE / "cli.md"), f"latchflow {verb}")
    command = _commands(get_command(cli))[verb]

    assert set(_OPTION.findall(text)) == set(_options(command))
    assert set(re.findall(rf"`latchflow {verb} ([a-z]+)`", text)) == set(_commands(command))


def test_the_reference_of_the_api_has_exactly_the_routes_with_their_scopes() -> None:
    documented = {
        (method, row[1].strip("`"), row[2].strip("`"))
        for row in rows(section(read(REFERENCE / "api.md"), "Routes"))
        for method in row[0].split()
    }

    assert documented == set(_routes())


def test_the_description_of_the_api_has_no_route_that_the_reference_lacks() -> None:
    described = {
        (method.upper(), path)
        for path, methods in create_app(Settings.load()).openapi()["paths"].items()
        for method in methods
    }

    assert described
    assert described <= {(method, path) for method, path, _ in _routes()}


def test_the_reference_of_the_api_names_every_scope() -> None:
    text = read(REFERENCE / "api.md").partition("## Routes")[0]
    areas = {scope.partition(":")[0] for scope in TOKEN_SCOPES if scope != ALL}

    assert {area for area in areas if not re.search(rf"`{area}[:`]", text)} == set()


def _routes() -> Iterator[tuple[str, str, str]]:
    own = [route for router in ROUTERS for route in router.routes]
    for route in (*own, *create_app(Settings.load()).routes):
        if not isinstance(route, Route | APIRoute):  # a router that was included: its routes are among ours
            continue
        path = re.sub(r":\w+}", "}", route.path)
        scope = _scope(route, path)
        yield from ((method, path, scope) for method in (route.methods or set()) - {"HEAD"})


def _scope(route: Route | APIRoute, path: str) -> str:
    below = route.dependant.dependencies if isinstance(route, APIRoute) else []
    scopes = [str(dependency.call.wanted) for dependency in below if isinstance(dependency.call, Requires)]
    if scopes:
        return scopes[0]
    assert is_public(path), f"{path} asks for no scope and is not public"
    return "public"


def _commands(command: Any) -> dict[str, Any]:
    return dict(getattr(command, "commands", {}))


def _options(command: Any) -> Iterator[str]:
    """Those of a verb, and of the verbs below it."""
    for parameter in command.params:
        yield from (option for option in parameter.opts if option.startswith("--") and option != "--help")
    for below in _commands(command).values():
        yield from _options(below)


def test_every_document_has_its_place_in_the_map() -> None:
    text = read(ROOT / "docs" / "index.md")
    documents = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md") if path.name != "index.md"]

    assert [path for path in documents if f"({PurePath(path).as_posix()})" not in text] == []

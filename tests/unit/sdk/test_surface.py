import dataclasses
import difflib
import inspect
import re
from datetime import timedelta
from typing import Any

import pytest

from latchflow import sdk
from tests.unit.house.sources import ROOT, read
from tests.unit.sdk.surface import SNAPSHOT, surface

_DETAILS = [thing for name in sdk.__all__ if dataclasses.is_dataclass(thing := getattr(sdk, name))]


def test_the_public_surface_is_the_one_that_was_promised() -> None:
    was, now = read(SNAPSHOT).splitlines(), surface().splitlines()

    difference = "\n".join(difflib.unified_diff(was, now, "promised", "now", lineterm="", n=0))

    assert not difference, (
        "The public surface of latchflow.sdk changed. Strangers' plugins rely on it for years: within a major version "
        "add, with a default, and never change or remove. If it is meant, say it in latchflow/sdk/CHANGELOG.md from "
        f"the author's side, then run `python -m tests.unit.sdk.surface`.\n\n{difference}"
    )


@pytest.mark.parametrize("details", _DETAILS, ids=lambda details: details.__name__)
def test_details_are_frozen_and_named(details: Any) -> None:
    assert details.__dataclass_params__.frozen, "A details object that can be changed lies to whoever else holds it."
    assert all(field.kw_only for field in dataclasses.fields(details)), "By position, no field can be added between."


def test_a_details_object_cannot_be_changed() -> None:
    after = sdk.RetryAfter(after=timedelta(1), reason="x")

    with pytest.raises(dataclasses.FrozenInstanceError):
        after.reason = "y"  # type: ignore[misc]


def test_there_are_details_objects() -> None:
    assert len(_DETAILS) > 20


def test_everything_public_says_what_it_is() -> None:
    silent = [
        name
        for name in sdk.__all__
        if isinstance(thing := getattr(sdk, name), type)
        and (not thing.__doc__ or thing.__doc__.startswith(f"{name}("))  # what dataclasses write by themselves
    ]
    methods = [
        f"{name}.{method}"
        for name in sdk.__all__
        if isinstance(thing := getattr(sdk, name), type)
        for method, member in vars(thing).items()
        if inspect.isfunction(member) and not method.startswith("_") and not member.__doc__
    ]

    assert (silent, methods) == ([], [])


def test_the_changelog_names_everything_public() -> None:
    named = set(re.findall(r"`@?(?:plugin\.)?(\w+)", read(ROOT / "latchflow" / "sdk" / "CHANGELOG.md")))

    assert {name for name in sdk.__all__ if name != "SDK_VERSION"} - named == set()


def test_the_sdk_needs_nothing_of_latchflow_but_itself() -> None:
    imported = re.findall(
        r"^\s*(?:from|import) (latchflow[\w.]*)",
        "\n".join(read(path) for path in (ROOT / "latchflow" / "sdk").glob("*.py")),
        flags=re.MULTILINE,
    )

    assert imported
    assert [name for name in imported if not name.startswith("latchflow.sdk")] == []

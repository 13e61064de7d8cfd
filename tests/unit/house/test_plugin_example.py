"""The plugin of docs/how-to/write-a-plugin.md is the one in examples/, and it loads."""

import re

import pytest

from latchflow.runtime.discovery import read_source
from latchflow.runtime.probe import check
from tests.unit.house.sources import ROOT, read

_FOLDER = ROOT / "examples" / "plugins" / "acme_orders"


@pytest.mark.parametrize("name", ["plugin.toml", "__init__.py", "order.py", "hand_over.py"])
def test_the_page_shows_the_file_as_it_is(name: str) -> None:
    blocks = re.findall(r"^```(?:toml|python)\n(.*?)^```", read(_PAGE), flags=re.MULTILINE | re.DOTALL)

    assert read(_FOLDER / name) in blocks, f"Copy {name} into {_PAGE.relative_to(ROOT)} again."


async def test_the_example_keeps_the_contract() -> None:
    source = read_source(_FOLDER)

    contract = await check(source)

    assert source.error is None
    assert {(one.kind, one.key) for one in contract.capabilities} == {("TRIGGER", "order"), ("ACTION", "hand_over")}


_PAGE = ROOT / "docs" / "how-to" / "write-a-plugin.md"

"""The plugins of the product, and the one of the documentation, pass the suite that authors get."""

from pathlib import Path

import pytest

from latchflow.testing.conformance import check_plugin
from tests.unit.house.sources import ROOT

_FOLDERS = sorted(
    file.parent for root in ("plugins", "examples/plugins") for file in (ROOT / root).glob("*/plugin.toml")
)


def test_there_are_plugins() -> None:
    assert _FOLDERS


@pytest.mark.parametrize("folder", _FOLDERS, ids=lambda folder: str(folder.relative_to(ROOT)))
def test_it_conforms(folder: Path) -> None:
    report = check_plugin(folder)

    assert report.faults == []
    assert report.verdicts

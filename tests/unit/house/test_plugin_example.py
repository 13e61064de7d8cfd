"""The plugin of docs/how-to/write-a-plugin.md is the one in examples/, and it loads."""

import json
import re
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest

from latchflow.runtime.loader.discovery import read_source
from latchflow.runtime.loader.probe import check
from latchflow.sdk import HttpResponse
from latchflow.testing import ScriptedHttp, plugin_under_test
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


def test_the_action_that_waits_works_as_the_page_says(tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", read(_PAGE), flags=re.MULTILINE | re.DOTALL)
    (code,) = [block for block in blocks if "class Build" in block]
    (tmp_path / "__init__.py").write_text(code, encoding="utf-8")
    (tmp_path / "plugin.toml").write_text('name = "acme-build"\nversion = "1.0.0"\nsdk = ">=1,<2"\n', encoding="utf-8")
    answers = [{"id": "b-1"}, {"state": "running"}, {"state": "ready"}]
    invocation_id = uuid4()

    with plugin_under_test(tmp_path) as harness:
        harness.services.http = ScriptedHttp(
            answers=[HttpResponse(status=200, headers={}, content=json.dumps(answer).encode()) for answer in answers]
        )
        started, checked, ended = (
            harness.run("build", config={"url": "https://example.org"}, invocation_id=invocation_id) for _ in answers
        )

    assert started.waiting.check_after == timedelta(minutes=1)
    assert checked.waiting.deadline == started.waiting.deadline
    assert ended.output == {"build": "b-1"}

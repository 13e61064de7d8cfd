import html
import re
import shutil
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.e2e.stack import Stack

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]

_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=15000",
]


def test_web_ui_shows_decoded_values_in_a_real_browser(stack: Stack, tmp_path: Path) -> None:
    trigger_id = stack.sleeping_pipeline("seen in the browser", seconds=0)
    event_id = stack.fire(trigger_id, {"note": "browser"})
    url = stack.until_ended(event_id, 20)["temporalUrl"]

    text = _text(_page(url, tmp_path))

    assert '"trigger_name": "seen in the browser"' in text
    assert '"SUCCEEDED"' in text


def test_web_ui_shows_the_steps_of_an_event_and_no_markup_of_anyone_in_them(stack: Stack, tmp_path: Path) -> None:
    name = "a|b <b id=evil>bold</b> `x` [l](http://evil.example) & www.evil.example"
    event_id = stack.fire(stack.sleeping_pipeline(name, seconds=0), {})
    url = stack.until_ended(event_id, 20)["temporalUrl"]
    ui_url = stack.ready["temporalUiUrl"]
    described = httpx2.get(f"{ui_url}/api/v1/namespaces/default/workflows/event:{event_id}", trust_env=False).json()
    run_id = described["workflowExecutionInfo"]["execution"]["runId"]

    metadata = _page(f"{url}/{run_id}/user-metadata", tmp_path)
    # The details stand in a frame of their own.
    (source,) = {found for found in re.findall(r'src="(/render[^"]*)"', metadata) if "SUCCEEDED" in found}
    details = _page(ui_url + html.unescape(source), tmp_path)

    cells = [_text(cell).strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", details, re.DOTALL)]
    assert [cell for cell in cells if cell not in ("", "│")] == [name, "sleep", "SUCCEEDED"]
    assert "<strong>SUCCEEDED</strong>" in details
    assert not re.search(r"<a\b|<b\b|<code\b", details)


def _page(url: str, folder: Path) -> str:
    """A page as the browser has rendered it."""
    chromium = shutil.which("chromium")
    assert chromium, "`make test-long` installs chromium; run the test through it"
    return subprocess.run(
        [chromium, *_FLAGS, f"--user-data-dir={folder}", "--dump-dom", url],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout


def _text(page: str) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", page))

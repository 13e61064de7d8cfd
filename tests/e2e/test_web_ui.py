import html
import re
import shutil
import subprocess
from pathlib import Path

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
    chromium = shutil.which("chromium")
    assert chromium, "`make test-long` installs chromium; run the test through it"
    trigger_id = stack.sleeping_pipeline("seen in the browser", seconds=0)
    event_id = stack.fire(trigger_id, {"note": "browser"})
    url = stack.until_ended(event_id, 20)["temporalUrl"]

    page = subprocess.run(
        [chromium, *_FLAGS, f"--user-data-dir={tmp_path}", "--dump-dom", url],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout

    text = html.unescape(re.sub(r"<[^>]*>", "", page))
    assert '"trigger_name": "seen in the browser"' in text
    assert '"SUCCEEDED"' in text

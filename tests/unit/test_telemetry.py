import subprocess
import sys

import pytest

_PROGRAM = """
import logging
import structlog
from latchflow.masking import hidden_in_logs
from latchflow.settings import Settings
from latchflow.telemetry import set_up_logs

set_up_logs(Settings.model_validate({"LATCHFLOW_LOG_FORMAT": "%s"}))
with hidden_in_logs("sesame-sesame"):
    structlog.get_logger("ours").warning("told", reason="say sesame-sesame", count=1)
    logging.getLogger("theirs").warning("say %%s", "sesame-sesame")
    try:
        raise ValueError("sesame-sesame")
    except ValueError:
        structlog.get_logger("ours").exception("failed")
structlog.get_logger("ours").warning("afterwards", reason="another")
"""


@pytest.mark.parametrize("form", ["json", "console"])
def test_what_is_hidden_is_in_no_line_of_the_log(form: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM % form], capture_output=True, text=True, timeout=30, check=True
    )

    assert "sesame-sesame" not in done.stderr
    assert done.stderr.count("[secret]") >= 3
    assert "another" in done.stderr

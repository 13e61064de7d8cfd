"""The tutorial as its reader lives it: its files written, its blocks pasted into one shell beside a running stack."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.stack import ROOT, Stack

_BLOCK = re.compile(
    r"(?:<!-- (?P<mark>not run|file): (?P<what>[^>]*?) -->\n)?```(?P<language>bash|python|toml)\n(?P<code>.*?)```",
    re.DOTALL,
)


def _script(text: str) -> str:
    """Everything the reader does, in order."""
    lines = []
    for block in _BLOCK.finditer(text):
        if block["mark"] == "file":
            lines.append(f"cat > {block['what']} <<'END_OF_FILE'\n{block['code']}END_OF_FILE")
        elif block["mark"] is None and block["language"] == "bash":
            lines.append(block["code"])
    return "\n".join(lines)


@pytest.mark.long
@pytest.mark.timeout(180)
def test_the_tutorial_leads_to_an_action_that_runs(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "tutorial" / "first-plugin.md").read_text(encoding="utf-8")
    folder = tmp_path / "my-plugins"
    folder.mkdir()
    (tmp_path / "stack").mkdir()
    stack = Stack(tmp_path / "stack", PLUGINS_PATH=str(folder), PLUGIN_AUTO_ENABLE="false", PLUGIN_HOT_RELOAD="true")
    try:
        (tmp_path / ".latchflow").mkdir()
        (tmp_path / ".latchflow" / "ready.json").write_text(json.dumps(stack.ready))
        binaries = Path(sys.executable).parent
        shell = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", _script(text)],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
                "no_proxy": "*",
                "LATCHFLOW_API_URL": stack.ready["apiUrl"],
                "LATCHFLOW_TOKEN": stack.ready["adminToken"],
            },
            capture_output=True,
            text=True,
            timeout=150,
            check=False,
        )
    finally:
        stack.close()

    assert shell.returncode == 0, shell.stdout + shell.stderr
    assert "Bonjour, Ada!" in shell.stdout
    assert "Salut, Eve!" in shell.stdout

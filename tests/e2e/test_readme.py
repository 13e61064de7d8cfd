"""The README as its reader lives it: every block pasted into one shell beside a running stack."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2

from tests.e2e.stack import ROOT, Stack

_BINARIES = Path(sys.executable).parent
# A block is run unless a comment `<!-- not run: why -->` stands on the line before it.
_BLOCK = re.compile(r"(?P<mark><!-- not run:[^>]*-->\n)?```bash\n(?P<code>.*?)```", re.DOTALL)


def test_the_commands_of_the_readme_do_what_it_says(stack: Stack, tmp_path: Path) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = [match["code"] for match in _BLOCK.finditer(text) if match["mark"] is None]
    (tmp_path / ".latchflow").mkdir()
    (tmp_path / ".latchflow" / "ready.json").write_text(json.dumps(stack.ready))

    shell = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", "\n".join(blocks)],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{_BINARIES}{os.pathsep}{os.environ['PATH']}", "no_proxy": "*"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert shell.returncode == 0, shell.stderr
    ids = {event["triggerName"]: event["id"] for event in stack.get("/admin/events?limit=200")["items"]}
    endings = {name: stack.until_ended(ids[name], 30)["status"] for name in ("orders", "pushes")}
    mails = httpx2.get(f"{stack.ready['smtpSinkUrl']}/messages", trust_env=False).json()["items"]
    assert endings == {"orders": "SUCCEEDED", "pushes": "SUCCEEDED"}
    texts = {mail["subject"]: mail["textBody"].strip() for mail in mails}
    assert texts["Order: 3 x lamp"] == "Total: 57"
    assert texts["ada pushed to analytical/engine"] == "Add the mill\nNumber the store"


def test_the_programs_that_the_readme_starts_are_installed() -> None:
    assert (_BINARIES / "latchflow").exists()


def test_make_run_writes_the_file_that_the_readme_reads() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    text = (ROOT / "README.md").read_text(encoding="utf-8")

    (path,) = set(re.findall(r"< (\S+ready\.json)", text))
    assert f"latchflow dev --ready-file {path}\n" in makefile.partition("\nrun:")[2]
    assert f"latchflow dev --ready-file {path}\n" in text

"""What the fake programs tell the tests, and each other: files in the folder FAKE_NOTES."""

import json
import os
import sys
from pathlib import Path

NOTES = Path(os.environ["FAKE_NOTES"])


def begin(name: str) -> None:
    """Note the environment; end at once if the test wants that."""
    (NOTES / f"{name}.env.json").write_text(json.dumps(dict(os.environ)))
    ending = NOTES / f"{name}.ending"
    if ending.exists():
        sys.stderr.write(f"Traceback: none\n{ending.read_text()}\n")
        sys.exit(1)
    statuses = NOTES / f"{name}.statuses"
    if statuses.exists():
        status, *later = statuses.read_text().split()
        statuses.write_text(" ".join(later)) if later else statuses.unlink()
        sys.exit(int(status))

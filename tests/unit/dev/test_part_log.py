import stat
from pathlib import Path

import pytest

from latchflow.dev.part_log import PartLog


def test_lines_are_kept_echoed_and_the_last_twenty_remembered(tmp_path: Path) -> None:
    echoed: list[str] = []
    log = PartLog(tmp_path / "api.log", echoed.append)

    log.note(b"".join(b"line %d\n" % number for number in range(30)) + b"unfin")
    log.note(b"ished")
    log.flush()

    assert echoed[0] == "line 0"
    assert log.tail == [*(f"line {number}" for number in range(11, 30)), "unfinished"]
    assert log.path.read_bytes().endswith(b"line 29\nunfinished")
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_bytes_that_are_no_text_harm_nothing(tmp_path: Path) -> None:
    log = PartLog(tmp_path / "api.log")

    log.note(b"\xff\xfe\r\n")

    assert log.tail == ["\ufffd\ufffd"]


def test_a_log_that_grew_too_large_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("latchflow.dev.part_log._MAX_BYTES", 10)
    log = PartLog(tmp_path / "api.log")

    for line in (b"old old old\n", b"new\n"):
        log.note(line)

    assert log.path.read_bytes() == b"new\n"
    assert (tmp_path / "api.log.1").read_bytes() == b"old old old\n"

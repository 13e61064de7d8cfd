import sys
from collections.abc import Iterator

import pytest

from latchflow.cli import events

_ID = "0198f3c2-1234-7abc-8def-0123456789ab"


class _Server:
    def items(self, path: str, **query: str) -> Iterator[dict[str, str | None]]:
        yield {
            "id": _ID,
            "triggerName": "orders from the shop",
            "status": "SUCCEEDED",
            "firedAt": "2030-01-31T08:00:00.123456Z",
            "closedAt": None,
        }


def test_a_terminal_of_80_columns_shows_whole_ids(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(events, "_server", _Server)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    events.list_events()

    shown = capsys.readouterr().out
    assert _ID in shown
    assert "…" not in shown
    assert max(len(line) for line in shown.splitlines()) == 80

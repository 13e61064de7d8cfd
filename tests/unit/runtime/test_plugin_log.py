import logging
from collections.abc import Iterator

import pytest
import structlog

from latchflow.masking import Masker
from latchflow.runtime.invoking.plugin_log import plugin_logger

SECRET = "hunter2-hunter2"


class _Client:
    def __repr__(self) -> str:
        return f"<Client {SECRET}>"


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What reaches the standard library's handlers, as text."""
    written: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            written.append(self.format(record))

    handler, logger = Handler(), logging.getLogger("plugin")
    logger.addHandler(handler)
    monkeypatch.setattr(logger, "propagate", False)
    logger.setLevel(logging.DEBUG)
    structlog.configure(
        processors=[structlog.processors.JSONRenderer()], logger_factory=structlog.stdlib.LoggerFactory()
    )
    yield written
    structlog.reset_defaults()
    logger.removeHandler(handler)


def test_no_secret_shows_in_what_a_plugin_logs(entries: list[str]) -> None:
    logger = plugin_logger(Masker([SECRET]), attempt=1).bind(url=f"https://x?key={SECRET}")

    text = "calls with " + SECRET
    logger.info(text, headers={"k": [SECRET]}, client=_Client(), raw=SECRET.encode(), count=2)
    logger.warning("asked %s", SECRET)
    try:
        raise ValueError(SECRET)
    except ValueError:
        logger.exception("failed")

    written = "\n".join(entries)
    assert len(entries) == 3
    assert SECRET not in written
    assert "calls with [secret]" in written
    assert '"count": 2' in written
    assert "ValueError: [secret]" in written


def test_without_secrets_a_plugin_logs_as_everyone(entries: list[str]) -> None:
    plugin_logger(Masker([]), attempt=1).info("hello", name="Ada")

    assert entries == ['{"attempt": 1, "name": "Ada", "event": "hello"}']

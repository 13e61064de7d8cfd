"""Logs, set up once per process."""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from latchflow.masking import hidden_now
from latchflow.settings import Settings

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def set_up_logs(settings: Settings) -> None:
    """Structured lines on stderr: for people in development, JSON in production. Libraries' logs take the same way."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        without_hidden,
    ]
    if settings.log_format == "json":
        rendering: list[Any] = [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    else:
        # Plain tracebacks: richer ones show local variables, and secrets are among them.
        plain = structlog.dev.plain_traceback
        rendering = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(_LEVELS[settings.log_level])
    for noisy in ("httpx2", "httpcore2", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    # It writes a traceback for every attempt that fails; the attempt's own entry says what a reader needs.
    logging.getLogger("temporalio.activity").setLevel(logging.ERROR)


def without_hidden(logger: Any, method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """The entry without what `latchflow.masking.hidden_in_logs` keeps out at this place, its traceback included."""
    masker = hidden_now()
    if masker is None:
        return entry
    entry = structlog.processors.format_exc_info(logger, method, entry)  # later it would bring what nobody masks
    for name, value in entry.items():
        if not name.startswith("_"):  # those are the library's own
            shown = masker.value(value)
            entry[name] = shown if masker.text(repr(shown)) == repr(shown) else masker.text(repr(shown))
    return entry

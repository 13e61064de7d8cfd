"""The logger a plugin gets: its entries carry the ids of the call, and no secret of its config."""

from collections.abc import MutableMapping
from typing import Any

import structlog

from latchflow.masking import Masker, printable

Entry = MutableMapping[str, Any]


def plugin_logger(masker: Masker, **ids: Any) -> Any:
    """A structured logger. What the plugin logs is masked, tracebacks too, and does nothing to a terminal."""

    def masked(_logger: Any, _method: str, entry: Entry) -> Entry:
        # Written out here, because later it would bring texts that nobody masks.
        entry = structlog.processors.format_exc_info(_logger, _method, entry)
        return {printable(masker.text(name)): _masked(value, masker) for name, value in entry.items()}

    configured = structlog.get_config()
    return structlog.wrap_logger(
        configured["logger_factory"]("plugin"),
        processors=[masked, *configured["processors"]],
        wrapper_class=configured["wrapper_class"],
        context_class=configured["context_class"],
    ).bind(**ids)


def _masked(value: Any, masker: Masker) -> Any:
    if isinstance(value, str):
        return printable(masker.text(value))
    if value is None or isinstance(value, bool | int | float | dict | list | tuple):
        value = masker.value(value)
    try:
        text = repr(value)
    except Exception as error:  # it is the plugin's code
        return f"({type(value).__name__} without a text: its __repr__ raised {type(error).__name__})"
    shown = masker.text(text)
    return value if shown == text else printable(shown)

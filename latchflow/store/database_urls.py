"""Reading a database URL. What is wrong with one is said without quoting it: it holds a password."""

from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from latchflow.errors import ConfigurationError


def read_database_url(url: str, setting: str) -> dict[str, Any]:
    """The parts of a URL, by libpq's names: ``user``, ``password``, ``host``, ``port``, ``dbname`` and so on.

    Args:
        url: ``postgresql://USER:PASSWORD@HOST:PORT/DATABASE``, or libpq's ``name=value`` form.
        setting: Where it comes from, for the message.

    Raises:
        ConfigurationError: It is malformed. The message never quotes it.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.ProgrammingError:  # its text quotes the URL
        raise _malformed(setting) from None
    ports = str(parts.get("port") or "").split(",")
    # A password that was not percent-encoded ends up in the host or in the port, which errors of the connection quote.
    if "@" in str(parts.get("host") or "") or not all(port.isdecimal() or not port for port in ports):
        raise _malformed(setting)
    return parts


def _malformed(setting: str) -> ConfigurationError:
    return ConfigurationError(
        f"{setting} is no PostgreSQL URL. Write postgresql://USER:PASSWORD@HOST:PORT/DATABASE, with the special "
        "characters of user and password percent-encoded."
    )

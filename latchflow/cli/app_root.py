"""Where the application lives: the folder that holds ``worker.py``."""

from pathlib import Path

from latchflow.errors import ConfigurationError
from latchflow.settings import Settings

_HOW_TO_GET_IT = (
    "Run this inside a checkout of Latchflow, or set LATCHFLOW_HOME to one "
    "(git clone the repository: the package alone holds no worker.py)."
)


def find_app_root(settings: Settings) -> Path:
    """The application root: ``LATCHFLOW_HOME``, or the nearest folder upward from here that holds ``worker.py``.

    Raises:
        ConfigurationError: There is none; the message says how to get it.
    """
    if settings.home is not None:
        home = settings.home.expanduser().resolve()
        if not (home / "worker.py").is_file():
            raise ConfigurationError(f"LATCHFLOW_HOME is {home}, which holds no worker.py. {_HOW_TO_GET_IT}")
        return home
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "worker.py").is_file():
            return folder
    raise ConfigurationError(
        f"No application root: neither {here} nor a folder above it holds worker.py. {_HOW_TO_GET_IT}"
    )

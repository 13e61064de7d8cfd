"""``latchflow worker`` and ``latchflow api``: become the program of the application root."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from latchflow.cli.app_root import find_app_root
from latchflow.settings import Settings


def worker(
    context: typer.Context,
    plugin: Annotated[
        str | None, typer.Option(help="Work only for this plugin of LATCHFLOW_DEDICATED_PLUGINS.", show_default="all")
    ] = None,
) -> None:
    """Run a worker; arguments are handed to worker.py."""
    dedicated = () if plugin is None else ("--plugin", plugin)
    become(["worker.py", *dedicated, *context.args])


def api(context: typer.Context) -> None:
    """Run the API; arguments are handed to it."""
    become(["-m", "api", *context.args])


def become(arguments: Sequence[str]) -> None:
    """Go on as a program of the application root."""
    root = find_app_root(Settings.load())
    os.chdir(root)
    # The same process, so that whoever started the verb signals and watches the program itself.
    os.execve(sys.executable, [sys.executable, *arguments], {**os.environ, "LATCHFLOW_HOME": str(root)})  # noqa: S606

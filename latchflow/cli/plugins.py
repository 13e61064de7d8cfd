"""``latchflow plugins``."""

import typer

from latchflow.cli.plugin_kit import check, new

plugins = typer.Typer(help="Write, check and manage plugins.", no_args_is_help=True)
plugins.command("new")(new)
plugins.command("check")(check)

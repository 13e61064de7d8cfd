"""``latchflow plugins``: writing and checking them, what is installed, and enabling it."""

import json
import sys
from typing import Annotated, Any

import typer

from latchflow.cli.plugin_kit import check, new
from latchflow.errors import ConfigurationError
from latchflow.settings import Settings

plugins = typer.Typer(help="Write, check and manage plugins.", no_args_is_help=True)
plugins.command("new")(new)
plugins.command("check")(check)

_COLUMNS = ("name", "version", "status", "granted", "brings", "error")


@plugins.command("list")
def list_plugins(
    is_json: Annotated[bool, typer.Option("--json", help="The documents of the API, as a JSON list.")] = False,
) -> None:
    """List plugins with their verdicts."""
    from latchflow.cli.server import Server

    found = list(Server.of(Settings.load()).items("/admin/plugins"))
    if is_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        for plugin in found:
            sys.stdout.write("\t".join(_row(plugin)) + "\n")


@plugins.command("enable")
def enable(
    name: Annotated[str, typer.Argument(help="As in its plugin.toml.")],
    grant: Annotated[list[str] | None, typer.Option(help="A scope to grant; may stand several times.")] = None,
    grant_all: Annotated[bool, typer.Option("--grant-all", help="Grant every scope that it declares.")] = False,
) -> None:
    """Check a plugin and enable it, with the scopes that are granted."""
    from latchflow.cli.server import Server

    server = Server.of(Settings.load())
    plugin = next((found for found in server.items("/admin/plugins") if found["name"] == name), None)
    if plugin is None:
        raise ConfigurationError(f"There is no plugin named {name!r}. `latchflow plugins list` shows those there are.")
    granted = plugin["scopes"] if grant_all else list(grant or ())
    left_out = [scope for scope in plugin["scopes"] if scope not in granted]
    if left_out and not granted:
        raise ConfigurationError(
            f"{name} declares these scopes: {', '.join(left_out)}. Grant those it shall have with --grant SCOPE, or "
            "all with --grant-all."
        )
    body = {"status": "ENABLED", "grantedScopes": granted}
    enabled = server.call("PATCH", f"/admin/plugins/{plugin['id']}", body)
    sys.stdout.write(f"{enabled['name']} {enabled['version']} is {enabled['status']}\n")
    sys.stdout.write(f"granted: {', '.join(enabled['grantedScopes']) or 'no scopes'}\n")
    if left_out:
        sys.stdout.write(f"not granted, so calls that need them are denied: {', '.join(left_out)}\n")


def _row(plugin: dict[str, Any]) -> list[str]:
    brought = [f"{one['kind'].lower()} {one['key']}" for one in plugin["capabilities"]]
    brought += [f"{one['kind']} provider {one['id']}" for one in plugin["providers"]]
    return [
        plugin["name"],
        plugin["version"] + (" (mixed)" if plugin["mixed"] else ""),
        plugin["status"],
        ", ".join(plugin["grantedScopes"]),
        ", ".join(brought),
        " ".join((plugin["error"] or "").split()),
    ]


def _print_table(found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*_COLUMNS)
    for plugin in found:
        table.add_row(*(Text(cell) for cell in _row(plugin)))
    Console().print(table)

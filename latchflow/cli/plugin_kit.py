"""``latchflow plugins new`` and ``latchflow plugins check``: for authors, without a server."""

import json
import re
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from latchflow.errors import ConfigurationError

_TEMPLATE = Path(__file__).parent / "plugin_template"
_NAME = re.compile(r"(?:@[a-z0-9][a-z0-9-]*/)?[a-z0-9][a-z0-9._-]{0,63}")


def new(
    name: Annotated[str, typer.Argument(help="Like acme-greeter or @acme/greeter.")],
    into: Annotated[Path, typer.Option(help="The folder that gets the plugin's folder.")] = Path("plugins"),
) -> None:
    """Write a new plugin: an action, its example calls, and tests that pass."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(f"{name!r} is no name of a plugin. Write something like acme-greeter, in lower case.")
    short = name.rpartition("/")[2]
    folder = into / re.sub(r"[^a-z0-9]+", "_", short).strip("_")
    if folder.exists():
        raise ConfigurationError(f"{folder} is there already. Choose another name, or remove it.")
    values = {"name": name, "title": short.replace("-", " ").replace("_", " ").replace(".", " ").capitalize()}
    for file in sorted(_TEMPLATE.rglob("*.txt")):
        target = folder / file.relative_to(_TEMPLATE).with_suffix("")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(Template(file.read_text(encoding="utf-8")).substitute(values), encoding="utf-8")
    typer.echo(f"{folder} is written. Next: latchflow plugins check {folder}")


def check(
    path: Annotated[Path, typer.Argument(help="The plugin's folder.", exists=True, file_okay=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Check a plugin's contract and try its example calls in every way it must stand; exit status 1 on a fault."""
    from latchflow.testing.conformance import check_plugin

    report = check_plugin(path)
    if as_json:
        typer.echo(json.dumps([vars(verdict) for verdict in report.verdicts], indent=2))
    else:
        for verdict in report.verdicts:
            typer.echo(f"{'FAULT' if verdict.fault else 'ok':<6}{verdict.subject}: {verdict.check}")
            if verdict.fault:
                typer.echo(f"      {verdict.fault}")
    raise typer.Exit(1 if report.faults else 0)

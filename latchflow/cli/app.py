"""The verbs of ``latchflow``. Each imports what it needs when it is called, so that ``--help`` stays quick."""

import sys

import typer

from latchflow.cli.deploy import deploy
from latchflow.cli.dev import dev
from latchflow.cli.events import events
from latchflow.cli.keys import keys
from latchflow.cli.plugins import plugins
from latchflow.cli.programs import api, worker
from latchflow.cli.providers import providers
from latchflow.errors import ConfigurationError
from latchflow.settings import Settings

app = typer.Typer(
    name="latchflow",
    help="Automations a team can trust: triggers, pipelines, actions, and a record of everything.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command()(dev)
_PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
app.command(context_settings=_PASS_ON)(worker)
app.command(context_settings=_PASS_ON)(api)
app.add_typer(deploy, name="deploy")
app.add_typer(events, name="events")
app.add_typer(keys, name="keys")
app.add_typer(plugins, name="plugins")
app.add_typer(providers, name="providers")


@app.command()
def migrate() -> None:
    """Bring the database to the newest schema, as the role of DATABASE_MIGRATION_URL."""
    from latchflow.store.migrate import upgrade

    upgrade(Settings.load())


def main() -> None:
    """Run the command line; what the operator must correct becomes one line on stderr and exit status 1."""
    try:
        app()
    except ConfigurationError as error:
        sys.stderr.write(f"latchflow: {' '.join(error.message.split())}\n")
        sys.exit(1)

"""``latchflow keys``."""

import typer

from latchflow.key_material import new_encryption_key

keys = typer.Typer(help="The keys that seal configs, secrets and payloads.", no_args_is_help=True)


@keys.callback()
def _group() -> None:
    """Keep ``generate`` a verb of its own while it is the only one."""


@keys.command()
def generate() -> None:
    """Print a fresh key for ENCRYPTION_KEY."""
    typer.echo(new_encryption_key())

"""``latchflow deploy``: builds of the workers."""

from typing import Annotated

import typer

from latchflow.cli.programs import become

deploy = typer.Typer(help="Builds of the workers, with LATCHFLOW_BUILD_ID.", no_args_is_help=True)


@deploy.callback()
def _group() -> None:
    """Keep ``promote`` a verb of its own while it is the only one."""


@deploy.command()
def promote(
    build_id: Annotated[
        str | None, typer.Option(help="The build to make current.", show_default="LATCHFLOW_BUILD_ID")
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, max=10_000, help="Open workflows of each type to replay first, the newest.")
    ] = 200,
) -> None:
    """Replay what is open with the code of this application root, then let the build's workers carry it on."""
    named = () if build_id is None else ("--build-id", build_id)
    become(["promote.py", *named, "--limit", str(limit)])

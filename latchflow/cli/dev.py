"""``latchflow dev``: the embedded stack."""

from pathlib import Path
from typing import Annotated

import typer

from latchflow.cli.app_root import find_app_root
from latchflow.settings import Settings

_Port = Annotated[int | None, typer.Option(min=1, max=65535, show_default="a free one")]


def dev(
    data_dir: Annotated[
        Path | None, typer.Option(help="Where everything is kept.", show_default=".latchflow in the application root")
    ] = None,
    api_port: _Port = None,
    temporal_port: _Port = None,
    ui_port: _Port = None,
    processes: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    ready_file: Annotated[
        Path | None, typer.Option(help="Written (JSON, 0600) when the stack is ready; removed when it stops.")
    ] = None,
    is_fresh: Annotated[
        bool,
        typer.Option(
            "--fresh",
            help="Begin with an empty data directory; refused for a folder that is not one of a stack's.",
        ),
    ] = False,
) -> None:
    """Run Temporal, PostgreSQL, a mail sink, the API and workers on this machine, until Ctrl-C."""
    from latchflow.dev.options import StackOptions
    from latchflow.dev.stack import run_stack

    settings = Settings.load()
    root = find_app_root(settings)
    options = StackOptions(
        root=root,
        data_dir=(data_dir or root / ".latchflow").expanduser().absolute(),
        api_port=api_port,
        temporal_port=temporal_port,
        ui_port=ui_port,
        processes=processes,
        dedicated=sorted(settings.dedicated),
        ready_file=ready_file.expanduser().absolute() if ready_file else None,
        is_fresh=is_fresh,
    )
    raise typer.Exit(run_stack(options))

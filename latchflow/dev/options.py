"""What the operator asked ``latchflow dev`` for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """The options of one stack.

    Attributes:
        root: The application root, which holds ``worker.py`` and the package ``api``.
        data_dir: Where everything is kept.
        api_port: None for a free one; so for the other two.
        temporal_port: The port of Temporal's gRPC frontend.
        ui_port: The port of the Temporal Web UI.
        processes: How many worker processes.
        dedicated: The plugins that get a worker of their own beside them.
        ready_file: Where to say that the stack is ready, if anywhere.
        is_fresh: Whether to begin with an empty data directory.
    """

    root: Path
    data_dir: Path
    api_port: int | None = None
    temporal_port: int | None = None
    ui_port: int | None = None
    processes: int = 1
    dedicated: Sequence[str] = ()
    ready_file: Path | None = None
    is_fresh: bool = False

"""How a stack tells other programs that it is ready, and where to find it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from latchflow.dev.private_file import try_writing, write_private
from latchflow.errors import ConfigurationError

Pids = dict[str, int | list[int] | dict[str, int | None] | None]
"""Of each part its process; of the workers a list when there are several, of those of one plugin by its name."""


@dataclass(frozen=True, kw_only=True)
class StackAddresses:
    """Where the parts of a ready stack are.

    Attributes:
        api_url: The admin API.
        admin_token: A token with all scopes.
        temporal_address: ``host:port`` of Temporal's frontend.
        temporal_ui_url: The Temporal Web UI.
        temporal_namespace: The namespace that the stack uses.
        database_url: The database, as the application's role.
        smtp_sink_url: Where the caught mails can be read.
        worker_metrics_url: The metrics of the first worker.
    """

    api_url: str
    admin_token: str = field(repr=False)
    temporal_address: str
    temporal_ui_url: str
    temporal_namespace: str
    database_url: str = field(repr=False)
    smtp_sink_url: str
    worker_metrics_url: str


class ReadyFile:
    """The file of ``--ready-file``: it exists exactly while the stack is ready (unless the stack was killed).

    Raises:
        ConfigurationError: It cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        try:
            self.remove()
            if path is not None:
                try_writing(path)
        except OSError as error:
            raise ConfigurationError(
                f"--ready-file {path} cannot be written ({error.strerror}). Name another."
            ) from error

    def write(self, addresses: StackAddresses, pids: Pids) -> None:
        """Say that the stack is ready, or that a part of it has another process now."""
        if self._path is None:
            return
        document = {
            "apiUrl": addresses.api_url,
            "adminToken": addresses.admin_token,
            "temporalAddress": addresses.temporal_address,
            "temporalUiUrl": addresses.temporal_ui_url,
            "temporalNamespace": addresses.temporal_namespace,
            "databaseUrl": addresses.database_url,
            "smtpSinkUrl": addresses.smtp_sink_url,
            "workerMetricsUrl": addresses.worker_metrics_url,
            "pids": pids,
        }
        write_private(self._path, json.dumps(document, indent=2))

    def remove(self) -> None:
        """The stack is not ready, or not any more."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)


def write_profile(data_dir: Path, addresses: StackAddresses) -> None:
    """Write down how the other verbs of the command line reach this stack."""
    profile = {
        "apiUrl": addresses.api_url,
        "token": addresses.admin_token,
        "smtpSinkUrl": addresses.smtp_sink_url,
        "temporalUiUrl": addresses.temporal_ui_url,
    }
    write_private(data_dir / "profile.json", json.dumps(profile, indent=2))

"""The real Temporal server, as one process with an SQLite file."""

from collections.abc import Mapping
from pathlib import Path

from latchflow.dev.binaries import temporal_binary
from latchflow.dev.ports import LOOPBACK
from latchflow.dev.program import Program
from latchflow.names import SEARCH_PIPELINES, SEARCH_STATUS, SEARCH_TRIGGER

NAMESPACE = "default"

# Of a namespace that is made now; in one that is there already, API and worker register them.
_SEARCH_ATTRIBUTES = (f"{SEARCH_TRIGGER}=Keyword", f"{SEARCH_PIPELINES}=KeywordList", f"{SEARCH_STATUS}=Keyword")
_PRAGMAS = ("journal_mode=WAL", "synchronous=NORMAL")
# Without these a lone workflow waits 50 ms at each of its steps (20 polls a second), each timer under a second takes a
# whole one, and tasks are spread over four partitions that one worker polls in turn.
_DYNAMIC_CONFIG = (
    "history.transferProcessorMaxPollRPS=200",
    "history.timerProcessorMaxPollRPS=200",
    'history.timerProcessorMaxTimeShift="10ms"',
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
)


class TemporalServer:
    """The server of one data directory.

    Attributes:
        address: Where its clients connect.
        ui_url: Its Web UI.
        health_url: Answers 200 when both are ready: the Web UI asks the frontend for the namespace.
    """

    def __init__(self, data_dir: Path, port: int, ui_port: int, codec_endpoint: str, env: Mapping[str, str]) -> None:
        self.address = f"{LOOPBACK}:{port}"
        self.ui_url = f"http://{LOOPBACK}:{ui_port}"
        self.health_url = f"{self.ui_url}/api/v1/namespaces/{NAMESPACE}"
        self._data_dir = data_dir
        self._arguments = ["--ip", LOOPBACK, "--port", str(port), "--ui-ip", LOOPBACK, "--ui-port", str(ui_port)]
        self._arguments += ["--ui-codec-endpoint", codec_endpoint, "--ui-disable-news-fetch"]
        self._env = env

    def server(self) -> Program:
        """The server."""
        database = ["--db-filename", str(self._data_dir / "temporal.db")]
        pragmas = [word for pragma in _PRAGMAS for word in ("--sqlite-pragma", pragma)]
        search = [word for attribute in _SEARCH_ATTRIBUTES for word in ("--search-attribute", attribute)]
        config = [word for value in _DYNAMIC_CONFIG for word in ("--dynamic-config-value", value)]
        return Program(
            name="temporal",
            argv=[temporal_binary(), "server", "start-dev", *self._arguments, *database, *pragmas, *search, *config],
            env=self._env,
            cwd=self._data_dir,
        )

"""What one stack consists of: every program with its command, its ports and its environment."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from latchflow.dev import environment
from latchflow.dev.application import api_program, worker_program
from latchflow.dev.options import StackOptions
from latchflow.dev.ports import LOOPBACK, Ports
from latchflow.dev.postgres import APP_ROLE, OWNER_ROLE, SUPERUSER, Postgres
from latchflow.dev.program import Program
from latchflow.dev.ready import StackAddresses
from latchflow.dev.sink import Sink
from latchflow.dev.stack_keys import StackKeys
from latchflow.dev.temporal_server import NAMESPACE, TemporalServer
from latchflow.names import normal_form
from latchflow.settings import Settings

# Of one process: the check at its start, the API's lock as leader.
_BESIDE_THE_POOL = 2
_FOR_OPERATORS = 30


@dataclass(frozen=True, kw_only=True)
class StackPorts:
    """The ports of one stack; they stay the same when a part is started again."""

    api: int
    temporal: int
    temporal_ui: int
    postgres: int
    worker_metrics: tuple[int, ...]
    dedicated_metrics: tuple[int, ...] = ()


def choose_ports(options: StackOptions) -> StackPorts:
    """The ports that were asked for, and free ones.

    Raises:
        ConfigurationError: A port that was asked for is taken.
    """
    ports = Ports()
    return StackPorts(
        api=ports.choose(options.api_port, "--api-port"),
        temporal=ports.choose(options.temporal_port, "--temporal-port"),
        temporal_ui=ports.choose(options.ui_port, "--ui-port"),
        postgres=ports.choose(),
        worker_metrics=tuple(ports.choose() for _ in range(options.processes)),
        dedicated_metrics=tuple(ports.choose() for _ in options.dedicated),
    )


class StackPrograms:
    """The programs of one stack.

    Attributes:
        addresses: Where they are, once they run.
        worker_names: The names of the worker parts.
        dedicated_names: Those of the workers that are for one plugin, by the name of the plugin.
        stop_order: The parts in the order in which they stop: who is served before who serves.
    """

    def __init__(
        self, options: StackOptions, keys: StackKeys, ports: StackPorts, sink: Sink, environ: Mapping[str, str]
    ) -> None:
        self._options = options
        self._keys = keys
        self._ports = ports
        self._smtp_address = sink.smtp_address
        self._environ = environ
        inherited = environment.inherited(environ)
        api_url = f"http://{LOOPBACK}:{ports.api}"
        self.data_dir = options.data_dir
        self.postgres = Postgres(
            options.data_dir, ports.postgres, keys, inherited, max_connections=_connections(options, environ)
        )
        codec_endpoint = f"{api_url}/codec/ui/{keys.codec_ui_key}"
        self.temporal = TemporalServer(options.data_dir, ports.temporal, ports.temporal_ui, codec_endpoint, inherited)
        count = options.processes
        self.worker_names = ["worker"] if count == 1 else [f"worker-{number}" for number in range(1, count + 1)]
        self.dedicated_names = {plugin: f"worker-plugin-{_slug(plugin)}" for plugin in options.dedicated}
        workers = [*self.worker_names, *self.dedicated_names.values()]
        self.stop_order = [workers, ["api"], ["temporal"], ["postgres"]]
        self.addresses = StackAddresses(
            api_url=api_url,
            admin_token=keys.admin_token,
            temporal_address=self.temporal.address,
            temporal_ui_url=self.temporal.ui_url,
            temporal_namespace=NAMESPACE,
            database_url=self.postgres.url(APP_ROLE),
            smtp_sink_url=sink.http_url,
            worker_metrics_url=f"http://{LOOPBACK}:{ports.worker_metrics[0]}/metrics",
        )

    def prepare_database(self) -> Program:
        """The one program that knows the superuser's password and the owner's."""
        own = {
            "LATCHFLOW_DEV_SUPERUSER_URL": self.postgres.url(SUPERUSER, "postgres"),
            "DATABASE_MIGRATION_URL": self.postgres.url(OWNER_ROLE),
            "DATABASE_URL": self.postgres.url(APP_ROLE),
        }
        argv = [sys.executable, "-m", "latchflow.dev.prepare_database"]
        env = {**environment.inherited(self._environ), **own}
        return Program(name="migrate", argv=argv, env=env, cwd=self.data_dir)

    def api(self) -> Program:
        """The API."""
        own = {
            "LATCHFLOW_API_HOST": LOOPBACK,
            "LATCHFLOW_API_PORT": str(self._ports.api),
            "LATCHFLOW_BOOTSTRAP_TOKEN": self._keys.admin_token,
            "LATCHFLOW_CODEC_UI_KEY": self._keys.codec_ui_key,
        }
        return api_program(self._options.root, self._application(own))

    def workers(self) -> list[Program]:
        """The worker processes, each with a metrics port of its own."""
        ordinary = zip(self.worker_names, self._ports.worker_metrics, strict=True)
        dedicated = zip(self.dedicated_names.items(), self._ports.dedicated_metrics, strict=True)
        return [
            *(self._worker(name, port, None) for name, port in ordinary),
            *(self._worker(name, port, plugin) for (plugin, name), port in dedicated),
        ]

    def _worker(self, name: str, metrics_port: int, plugin: str | None) -> Program:
        env = self._application({"LATCHFLOW_WORKER_METRICS_ADDRESS": f"{LOOPBACK}:{metrics_port}"})
        return worker_program(name, self._options.root, env, plugin=plugin)

    def _application(self, own: Mapping[str, str]) -> dict[str, str]:
        shared = {
            "LATCHFLOW_HOME": str(self._options.root),
            "DATABASE_URL": self.postgres.url(APP_ROLE),
            "ENCRYPTION_KEY": self._keys.encryption_key,
            "TEMPORAL_ADDRESS": self.temporal.address,
            "TEMPORAL_NAMESPACE": NAMESPACE,
            # The SDK would otherwise take the rest of the connection from a profile in the home directory.
            "TEMPORAL_CONFIG_FILE": os.devnull,
            "LATCHFLOW_TEMPORAL_UI_URL": self.temporal.ui_url,
            "LATCHFLOW_PUBLIC_URL": self.addresses.api_url,
            "LATCHFLOW_STORAGE_DIR": str(self.data_dir.resolve() / "storage"),
        }
        return environment.application(self._environ, {**shared, **own}, smtp_address=self._smtp_address)


def _slug(plugin: str) -> str:
    return normal_form(plugin).lower().replace("_", "-")


def _connections(options: StackOptions, environ: Mapping[str, str]) -> int:
    """Enough for the pools of the API and of every worker, and for what an operator opens beside them."""
    pool_size = environ.get("DATABASE_POOL_SIZE", "").strip()
    each = int(pool_size) if pool_size.isdecimal() else Settings.model_fields["database_pool_size"].default
    return (options.processes + len(options.dedicated) + 1) * (each + _BESIDE_THE_POOL) + _FOR_OPERATORS

"""The worker process: picks the concrete parts, then polls Temporal until it is told to stop."""

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import structlog
import uvloop
from temporalio.client import Client
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.worker import PollerBehaviorSimpleMaximum, UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.actions import ActionActivities
from activities.bulk import BulkActivities
from activities.events import EventActivities
from activities.steps import StepActivities
from latchflow.crypto import Keyring
from latchflow.errors import ConfigurationError, LatchflowError
from latchflow.names import CORE_TASK_QUEUE, TASK_QUEUE, plugin_task_queue
from latchflow.runtime.ending import end_process, status_of
from latchflow.runtime.evaluator import Evaluator
from latchflow.runtime.guard import Backends
from latchflow.runtime.isolation.strain import EXIT_STATUS, STRAIN
from latchflow.runtime.isolation.watchdog import guarded
from latchflow.runtime.lifecycle.live import LiveRegistry
from latchflow.runtime.lifecycle.presence import ProcessIdentity, present
from latchflow.runtime.lifecycle.running import running_plugins
from latchflow.runtime.providers.host_services import check_settings, open_services
from latchflow.services.callbacks import Callbacks
from latchflow.services.resources import Resources
from latchflow.services.users import Users
from latchflow.settings import Settings
from latchflow.store import plugin_catalog, queues
from latchflow.store.database import Database
from latchflow.telemetry import set_up_logs
from latchflow.temporal import policies
from latchflow.temporal.cancelling import Canceller
from latchflow.temporal.client import check_namespace, connect
from latchflow.temporal.dispatch import Dispatcher
from latchflow.temporal.rerunning import Rerunner
from latchflow.temporal.search import register
from latchflow.temporal.starting import WorkflowStarter
from latchflow.temporal.versioning import deployment_config
from workflows import CORE_WORKFLOWS, WORKFLOWS

HOME = Path(__file__).resolve().parent

_POLLERS = 2
"""A frozen process swallows one attempt per open poll; eager dispatch makes few pollers enough."""

_CORE_ACTIVITIES = 10
"""Long work of our own at once in this process."""

_STRAIN_CHECK_SECONDS = 1.0

log = structlog.get_logger("worker")


async def main(plugin: str | None = None) -> int:
    """Run until SIGTERM or SIGINT, or until plugins have left too much over.

    Attempts in progress then finish within the grace; that of other plugins' work is as long as an attempt may last.

    Args:
        plugin: Work for this plugin only, on its own task queue.

    Returns:
        The exit status: 0 after a signal, else 75, and a supervisor has to start the process again.
    """
    settings = Settings.load()
    set_up_logs(settings)
    if plugin is not None:
        await _check_dedicated(plugin, settings)
    keyring = Keyring.from_setting(settings.encryption_key.get_secret_value())
    check_settings(settings)
    home = settings.home or HOME
    me = ProcessIdentity.of_this_process()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(settings))
        client = await connect(keyring, identity=str(me), runtime=_runtime(settings))
        await check_namespace(client)
        await register(client)
        plugins = await stack.enter_async_context(running_plugins(database, keyring, settings, home=home, only=plugin))
        await _check_loaded(plugin, plugins.live, database)
        services = await stack.enter_async_context(
            open_services(settings, database, keyring, lambda: plugins.live.snapshot)
        )
        plugins.live.before_disposal(services.providers.let_go)
        evaluator = Evaluator()
        stack.push_async_callback(evaluator.aclose)
        actions = ActionActivities(
            database=database,
            keyring=keyring,
            live=plugins.live,
            backends=Backends(
                email=services.mail,
                http=services.http,
                storage=services.storage,
                users=Users(database, services.mail, public_url=settings.public_url),
                resources=Resources(database),
                callbacks=Callbacks(database, public_url=settings.public_url),
            ),
            evaluator=evaluator,
            worker=str(me),
            switched_off=settings.switched_off,
        )
        stack.push_async_callback(actions.close)
        dispatcher = Dispatcher(database, keyring, WorkflowStarter(client), dedicated=settings.dedicated)
        stack.push_async_callback(dispatcher.close)
        events = EventActivities(database, start=dispatcher.start_soon)
        steps = StepActivities(database=database, keyring=keyring, evaluator=evaluator)
        worker = _worker(client, settings, actions, steps, events, plugin)
        if plugin is None:
            await stack.enter_async_context(_core_worker(client, settings, database, keyring))
        # Listed until the last attempt in progress has ended.
        async with (
            guarded(),
            present(database, me, "worker", plugins.live, plugin=plugin),
            _grace(stop, actions),
            worker,
        ):
            loaded = sorted(plugins.live.snapshot.plugins)
            log.info("worker ready", identity=str(me), plugins=loaded, task_queue=worker.task_queue)
            status = await _until_over(stop, settings.plugin_action_concurrency)
            grace = policies.SHUTDOWN_GRACE if stop.is_set() else policies.DRAIN_GRACE
            log.info("worker stops", grace_seconds=grace.total_seconds())
    return 0 if stop.is_set() else status  # it may have been told to stop while it drained


def _worker(
    client: Client,
    settings: Settings,
    actions: ActionActivities,
    steps: StepActivities,
    events: EventActivities,
    plugin: str | None,
) -> Worker:
    """The worker of everything, or that of one plugin's actions."""
    is_dedicated = plugin is not None
    bookkeeping: list[Callable[..., Any]] = [
        events.close_event,
        events.close_run,
        steps.begin_wait,
        steps.settle_wait,
        steps.expand_items,
        steps.finish_items,
    ]
    return Worker(
        client,
        task_queue=TASK_QUEUE if plugin is None else plugin_task_queue(plugin),
        workflows=[] if is_dedicated else WORKFLOWS,
        activities=[actions.execute_action, *([] if is_dedicated else bookkeeping)],
        deployment_config=deployment_config(settings.build_id),
        workflow_runner=SandboxedWorkflowRunner() if settings.workflow_sandbox else UnsandboxedWorkflowRunner(),
        max_concurrent_activities=settings.plugin_action_concurrency,
        activity_task_poller_behavior=PollerBehaviorSimpleMaximum(_POLLERS),
        workflow_task_poller_behavior=PollerBehaviorSimpleMaximum(5),
        sticky_queue_schedule_to_start_timeout=policies.STICKY_TIMEOUT,
        max_heartbeat_throttle_interval=policies.HEARTBEAT_INTERVAL,
        default_heartbeat_throttle_interval=policies.HEARTBEAT_INTERVAL,
        # Of a worker that nobody told to stop; for the others see `_grace`.
        graceful_shutdown_timeout=policies.DRAIN_GRACE,
    )


@asynccontextmanager
async def _grace(stop: asyncio.Event, actions: ActionActivities) -> AsyncIterator[None]:
    """Cut the attempts in progress short when the process was told to stop, also while it drains."""

    async def cut_short() -> None:
        await stop.wait()
        await asyncio.sleep(policies.SHUTDOWN_GRACE.total_seconds())
        actions.interrupt()

    task = asyncio.create_task(cut_short())
    try:
        yield
    finally:
        task.cancel()


@asynccontextmanager
async def _core_worker(client: Client, settings: Settings, database: Database, keyring: Keyring) -> AsyncIterator[None]:
    """A worker of core's own long work, beside that of events, while the block runs."""
    dispatcher = Dispatcher(database, keyring, WorkflowStarter(client), dedicated=settings.dedicated)
    canceller = Canceller(database, client)
    rerunner = Rerunner(database, keyring, dispatcher, dedicated=settings.dedicated)
    bulk = BulkActivities(database, canceller=canceller, rerunner=rerunner, dispatcher=dispatcher)
    worker = Worker(
        client,
        task_queue=CORE_TASK_QUEUE,
        workflows=CORE_WORKFLOWS,
        activities=[bulk.continue_bulk],
        workflow_runner=SandboxedWorkflowRunner() if settings.workflow_sandbox else UnsandboxedWorkflowRunner(),
        max_concurrent_activities=_CORE_ACTIVITIES,
        activity_task_poller_behavior=PollerBehaviorSimpleMaximum(_POLLERS),
        workflow_task_poller_behavior=PollerBehaviorSimpleMaximum(_POLLERS),
        sticky_queue_schedule_to_start_timeout=policies.STICKY_TIMEOUT,
        max_heartbeat_throttle_interval=policies.HEARTBEAT_INTERVAL,
        default_heartbeat_throttle_interval=policies.HEARTBEAT_INTERVAL,
    )
    async with worker:
        yield
    await dispatcher.close()
    await canceller.close()


async def _until_over(stop: asyncio.Event, slots: int) -> int:
    while not stop.is_set():
        if STRAIN.is_too_much_for(slots):
            STRAIN.drain()
            report = STRAIN.report()
            log.error(
                "plugins left too much over: the worker ends, to be started again",
                threads=report["leftoverThreads"],
                tasks=report["leftoverTasks"],
                slots=slots,
                left_by=report["leftover"],
            )
            return EXIT_STATUS
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), _STRAIN_CHECK_SECONDS)
    return 0


async def _check_dedicated(plugin: str, settings: Settings) -> None:
    if plugin in settings.dedicated:
        return
    if settings.database_url.get_secret_value():
        async with Database.open(settings) as database, database.connection() as connection:
            if number := (await queues.awaited(connection)).get(plugin):
                log.warning(
                    "LATCHFLOW_DEDICATED_PLUGINS does not name this plugin: the worker does what came before, no more",
                    plugin=plugin,
                    steps=number,
                )
                return
    named = ", ".join(sorted(settings.dedicated)) or "no plugin"
    raise ConfigurationError(
        f"--plugin {plugin}: LATCHFLOW_DEDICATED_PLUGINS names {named}. Add the plugin there, for the API and for "
        "every worker, or its steps do not come to this one."
    )


async def _check_loaded(plugin: str | None, live: LiveRegistry, database: Database) -> None:
    if plugin is None or plugin in live.snapshot.plugins:
        return
    async with database.connection() as connection:
        known = await plugin_catalog.get(connection, plugin)
    if known is not None and known.status == "DISABLED":
        return  # this worker ends the steps that come to it, with that reason
    if known is not None and known.status == "DISCOVERED":
        log.warning("this worker's plugin is not enabled: it is loaded as soon as it is", plugin=plugin)
        return
    raise ConfigurationError(
        f"--plugin {plugin}: this plugin is not here, or has failed. Look at PLUGINS_PATH, and at "
        "GET /admin/plugins for its status."
    )


def _runtime(settings: Settings) -> Runtime | None:
    address = settings.worker_metrics_address
    if address.endswith(":0"):
        return None
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=address)))
    except ValueError as error:
        message = f"LATCHFLOW_WORKER_METRICS_ADDRESS {address} cannot be used: {error}. Choose a free address."
        raise ConfigurationError(message) from None


async def _to_the_end(plugin: str | None) -> int:
    end_process(await main(plugin))  # what comes after this waits for every thread of the loop


def run(arguments: Sequence[str]) -> int:
    """Run the worker to the end of the process: 0 after a stop that was asked for, 75 when plugins left too much over.

    The watchdog ends the process with 70.

    Returns:
        The exit status: 69 when a part it needs did not answer, else 1, after a fault.
    """
    parser = argparse.ArgumentParser(prog="worker.py", description="Run one worker process.", allow_abbrev=False)
    parser.add_argument("--plugin", metavar="NAME", help="work for this plugin only, on its own task queue")
    try:
        return uvloop.run(_to_the_end(parser.parse_args(arguments).plugin))
    except LatchflowError as error:
        sys.stderr.write(f"latchflow: {error.message}\n")
        return status_of(error)
    except Exception:
        log.exception("the worker failed")
        return 1


if __name__ == "__main__":
    end_process(run(sys.argv[1:]))

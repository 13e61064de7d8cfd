"""The worker process: picks the concrete parts, then polls Temporal until it is told to stop."""

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import structlog
import uvloop
from temporalio.runtime import PrometheusConfig, Runtime, TelemetryConfig
from temporalio.worker import PollerBehaviorSimpleMaximum, UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from activities.actions import ActionActivities
from activities.events import EventActivities
from latchflow.crypto import Keyring
from latchflow.errors import ConfigurationError, LatchflowError
from latchflow.names import TASK_QUEUE
from latchflow.runtime.evaluator import Evaluator
from latchflow.runtime.guard import Backends
from latchflow.runtime.presence import ProcessIdentity, present
from latchflow.runtime.running import running_plugins
from latchflow.services.absent import Absent
from latchflow.services.egress import EgressGuard
from latchflow.services.email import SmtpEmail
from latchflow.services.http import GuardedHttp
from latchflow.services.mail import Mail
from latchflow.settings import Settings
from latchflow.store.database import Database
from latchflow.telemetry import set_up_logs
from latchflow.temporal import policies
from latchflow.temporal.client import check_namespace, connect
from workflows.trigger_event import TriggerEventWorkflow

HOME = Path(__file__).resolve().parent

_POLLERS = 2
"""A frozen process swallows one attempt per open poll; eager dispatch makes few pollers enough."""

log = structlog.get_logger("worker")


async def main() -> None:
    """Run until SIGTERM or SIGINT, then let attempts in progress finish within the grace."""
    settings = Settings.load()
    set_up_logs(settings)
    keyring = Keyring.from_setting(settings.encryption_key.get_secret_value())
    guard = EgressGuard(settings.http_egress_allow)
    email = Mail(SmtpEmail(settings.smtp_url.get_secret_value(), settings.smtp_from, guard))
    home = settings.home or HOME
    me = ProcessIdentity.of_this_process()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database.open(settings))
        client = await connect(keyring, identity=str(me), runtime=_runtime(settings))
        await check_namespace(client)
        plugins = await stack.enter_async_context(running_plugins(database, keyring, settings, home=home))
        http = GuardedHttp(guard)
        stack.push_async_callback(http.aclose)
        evaluator = Evaluator()
        stack.push_async_callback(evaluator.aclose)
        actions = ActionActivities(
            database=database,
            keyring=keyring,
            live=plugins.live,
            backends=Backends(email=email, http=http, storage=Absent(), users=Absent(), resources=Absent()),
            evaluator=evaluator,
            worker=str(me),
        )
        stack.push_async_callback(actions.close)
        poller = PollerBehaviorSimpleMaximum(_POLLERS)
        worker = Worker(
            client,
            task_queue=TASK_QUEUE,
            workflows=[TriggerEventWorkflow],
            activities=[actions.execute_action, EventActivities(database).close_event],
            workflow_runner=SandboxedWorkflowRunner() if settings.workflow_sandbox else UnsandboxedWorkflowRunner(),
            max_concurrent_activities=settings.plugin_action_concurrency,
            activity_task_poller_behavior=poller,
            workflow_task_poller_behavior=PollerBehaviorSimpleMaximum(5),
            sticky_queue_schedule_to_start_timeout=policies.STICKY_TIMEOUT,
            max_heartbeat_throttle_interval=policies.HEARTBEAT_INTERVAL,
            default_heartbeat_throttle_interval=policies.HEARTBEAT_INTERVAL,
            graceful_shutdown_timeout=policies.SHUTDOWN_GRACE,
        )
        # Listed until the last attempt in progress has ended.
        async with present(database, me, "worker", plugins.live), worker:
            log.info("worker ready", identity=str(me), plugins=sorted(plugins.live.snapshot.plugins))
            await stop.wait()
            log.info("worker stops", grace_seconds=policies.SHUTDOWN_GRACE.total_seconds())


def _runtime(settings: Settings) -> Runtime | None:
    address = settings.worker_metrics_address
    if address.endswith(":0"):
        return None
    try:
        return Runtime(telemetry=TelemetryConfig(metrics=PrometheusConfig(bind_address=address)))
    except ValueError as error:
        message = f"LATCHFLOW_WORKER_METRICS_ADDRESS {address} cannot be used: {error}. Choose a free address."
        raise ConfigurationError(message) from None


def run() -> int:
    """Run the worker to its end.

    Returns:
        The exit status: 0 after a stop that was asked for.
    """
    try:
        uvloop.run(main())
    except LatchflowError as error:
        sys.stderr.write(f"latchflow: {error.message}\n")
        return 1
    except Exception:
        log.exception("the worker failed")
        return 1
    return 0


if __name__ == "__main__":
    status = run()
    logging.shutdown()
    sys.stderr.flush()
    # Threads of plugins that never came back must not keep a worker alive that polls nothing any more.
    os._exit(status)

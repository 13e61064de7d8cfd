"""Making the parts of the API, and the work that goes on behind the requests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import structlog
from temporalio.client import Client

from api.bounded_audit import BoundedAudit
from api.chores import chores_of
from api.context import Context
from api.event_streams import EventStreams
from latchflow.crypto import Keyring
from latchflow.errors import ConfigurationError, UnavailableError
from latchflow.runtime.lifecycle.administration import PluginAdministration
from latchflow.runtime.lifecycle.presence import ProcessIdentity, present
from latchflow.runtime.lifecycle.running import running_plugins
from latchflow.runtime.providers.host_services import check_settings, open_services
from latchflow.services.users import Users
from latchflow.settings import Settings
from latchflow.store import deployments
from latchflow.store.database import Database
from latchflow.store.tokens import check_bootstrap_token, ensure_bootstrap_token
from latchflow.temporal.bulk import BulkOperations
from latchflow.temporal.cancelling import Canceller
from latchflow.temporal.chores import LEADER_LOCK_ID, run_chores
from latchflow.temporal.client import check_namespace, connect
from latchflow.temporal.dispatch import Dispatcher
from latchflow.temporal.leader import Leader
from latchflow.temporal.rerunning import Rerunner
from latchflow.temporal.search import keep_registering
from latchflow.temporal.starting import WorkflowStarter
from latchflow.temporal.waking import Waker

HOME = Path(__file__).resolve().parent.parent

log = structlog.get_logger(__name__)


async def check_parts(settings: Settings) -> None:
    """Open what the API needs once, before a server does that would answer a fault with a traceback.

    Raises:
        ConfigurationError: The keyring, a mail setting, the bootstrap token or the database cannot be used, or
            Temporal was never reached at its address.
    """
    keyring = Keyring.from_setting(settings.encryption_key.get_secret_value())
    check_settings(settings)
    bootstrap_token = settings.bootstrap_token.get_secret_value()
    if bootstrap_token:
        check_bootstrap_token(bootstrap_token)
    async with Database.open(settings) as database:
        client = await connect(keyring, identity=str(ProcessIdentity.of_this_process()), lazy=True)
        await _check_temporal(database, client)


async def open_context(settings: Settings, stack: AsyncExitStack) -> Context:
    """Make the parts; the stack closes them.

    Raises:
        ConfigurationError: One of them cannot be used.
    """
    keyring = Keyring.from_setting(settings.encryption_key.get_secret_value())
    me = ProcessIdentity.of_this_process()
    database = await stack.enter_async_context(Database.open(settings))
    bootstrap_token = settings.bootstrap_token.get_secret_value()
    if bootstrap_token:
        async with database.transaction() as connection:
            await ensure_bootstrap_token(connection, bootstrap_token)
    client = await connect(keyring, identity=str(me), lazy=True)
    plugins = await stack.enter_async_context(
        running_plugins(database, keyring, settings, home=settings.home or HOME, watches=True)
    )
    dispatcher = Dispatcher(database, keyring, WorkflowStarter(client), dedicated=settings.dedicated)
    canceller = Canceller(database, client)
    services = await stack.enter_async_context(
        open_services(settings, database, keyring, lambda: plugins.live.snapshot)
    )
    plugins.live.before_disposal(services.providers.let_go)
    waker = Waker(database, client)
    stack.push_async_callback(dispatcher.close)
    stack.push_async_callback(canceller.close)
    stack.push_async_callback(waker.close)
    await stack.enter_async_context(present(database, me, "api", plugins.live))
    return Context(
        settings=settings,
        database=database,
        keyring=keyring,
        temporal=client,
        dispatcher=dispatcher,
        canceller=canceller,
        rerunner=Rerunner(database, keyring, dispatcher, dedicated=settings.dedicated),
        bulk=BulkOperations(database, client),
        waker=waker,
        plugins=plugins,
        administration=PluginAdministration(database, plugins, is_reloading=settings.plugin_hot_reload),
        users=Users(database, services.mail, public_url=settings.public_url),
        services=services,
        denials=BoundedAudit(database),
        rejections=BoundedAudit(database),
        streams=EventStreams(database),
    )


@asynccontextmanager
async def chores(context: Context) -> AsyncIterator[None]:
    """Lead the deployment's chores whenever no other API process does, while the block runs."""
    leader = Leader(context.database.url, lock_id=LEADER_LOCK_ID)
    tasks = [
        asyncio.create_task(leader.run(lambda: run_chores(chores_of(context)))),
        asyncio.create_task(keep_registering(context.temporal)),
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def _check_temporal(database: Database, client: Client) -> None:
    """An address nobody ever reached is a mistake; one that was reached before is an outage, to be lived through."""
    temporal = f"{client.service_client.config.target_host} {client.namespace}"
    try:
        await check_namespace(client)
    except UnavailableError as error:
        async with database.connection() as connection:
            if not await deployments.has_reached(connection, temporal):
                raise ConfigurationError(error.message) from None
        log.warning("Temporal is away: deliveries are accepted and start later", reason=error.message)
        return
    async with database.connection() as connection:
        await deployments.note_reached(connection, temporal)

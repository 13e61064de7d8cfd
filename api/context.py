"""What every request may use, made once when the API starts."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from temporalio.client import Client

from api.bounded_audit import BoundedAudit
from api.event_streams import EventStreams
from latchflow.crypto import Keyring
from latchflow.runtime.lifecycle.administration import PluginAdministration
from latchflow.runtime.lifecycle.running import RunningPlugins
from latchflow.runtime.providers.host_services import HostServices
from latchflow.services.users import Users
from latchflow.settings import Settings
from latchflow.store.database import Database
from latchflow.temporal.bulk import BulkOperations
from latchflow.temporal.cancelling import Canceller
from latchflow.temporal.dispatch import Dispatcher
from latchflow.temporal.rerunning import Rerunner
from latchflow.temporal.waking import Waker


@dataclass(frozen=True, kw_only=True)
class Context:
    """The parts of a running API.

    Attributes:
        temporal: Connects at its first call, so that the API serves while Temporal is away.
        plugins: What this process can run of them, and how it is kept up to date.
        waker: Tells invocations that wait that something has come for them.
        administration: What admins do with plugins.
        users: Invites people, by mail.
        services: What reaches outside: mail, providers, and what they are configured with.
        denials: Where refused calls are recorded.
        rejections: Where deliveries that a trigger refused, or failed to read, and callbacks that nobody waits for, are
            recorded.
        streams: Who follows an event through this process.
    """

    settings: Settings
    database: Database
    keyring: Keyring
    temporal: Client
    dispatcher: Dispatcher
    canceller: Canceller
    rerunner: Rerunner
    bulk: BulkOperations
    waker: Waker
    plugins: RunningPlugins
    administration: PluginAdministration
    users: Users
    services: HostServices
    denials: BoundedAudit
    rejections: BoundedAudit
    streams: EventStreams


def context_of(request: Request) -> Context:
    """The context of the application that serves this request."""
    context = request.app.state.context
    if not isinstance(context, Context):
        raise TypeError("The application has no context: its lifespan has not run.")
    return context


ContextDep = Annotated[Context, Depends(context_of)]

"""What a plugin author imports, and nothing else.

A plugin is a folder with a ``plugin.toml`` and a package that binds ``plugin``::

    from latchflow.sdk import ActionCall, Plugin

    plugin = Plugin()

    @plugin.action("greet", display_name="Greet", config_schema=GreetConfig)
    async def greet(call: ActionCall[GreetConfig]) -> dict[str, str]:
        return {"greeting": f"Hello {call.config.name}"}

A plugin never reports "started" or "finished": core does, around a plain function that returns or raises.
"""

from latchflow.sdk.actions import Action, ActionCall, ActionResult, Callback, Invocation, Pending, RetryAfter, Waiter
from latchflow.sdk.capabilities import (
    ActionCapability,
    InboundCapability,
    ProviderDeclaration,
    ResidentCapability,
    ScheduledCapability,
)
from latchflow.sdk.email import (
    MAX_ATTACHMENT_BYTES,
    EmailAddress,
    EmailAttachment,
    EmailDelivery,
    EmailLookup,
    EmailMessage,
    EmailProvider,
    EmailService,
    SendResult,
)
from latchflow.sdk.errors import PermanentFailure, Retry, ServiceError, ServiceErrorKind
from latchflow.sdk.http import HttpRequest, HttpResponse, HttpService
from latchflow.sdk.logger import Logger
from latchflow.sdk.network import Network
from latchflow.sdk.plugin import Plugin
from latchflow.sdk.providers import ProviderSetup
from latchflow.sdk.residents import Accepted, Emission, ResidentSetup, ResidentTrigger
from latchflow.sdk.resources import ResourceService
from latchflow.sdk.schedules import Schedule
from latchflow.sdk.services import Services
from latchflow.sdk.storage import ReleaseLink, StorageProvider, StorageService, StorageUpload, StoredObject
from latchflow.sdk.triggers import Emit, InboundRequest, Reject
from latchflow.sdk.users import User, UserPage, UserService

SDK_VERSION = 1
"""The major version a ``plugin.toml`` names in ``sdk = ">=1,<2"``."""

__all__ = [
    "MAX_ATTACHMENT_BYTES",
    "SDK_VERSION",
    "Accepted",
    "Action",
    "ActionCall",
    "ActionCapability",
    "ActionResult",
    "Callback",
    "EmailAddress",
    "EmailAttachment",
    "EmailDelivery",
    "EmailLookup",
    "EmailMessage",
    "EmailProvider",
    "EmailService",
    "Emission",
    "Emit",
    "HttpRequest",
    "HttpResponse",
    "HttpService",
    "InboundCapability",
    "InboundRequest",
    "Invocation",
    "Logger",
    "Network",
    "Pending",
    "PermanentFailure",
    "Plugin",
    "ProviderDeclaration",
    "ProviderSetup",
    "Reject",
    "ReleaseLink",
    "ResidentCapability",
    "ResidentSetup",
    "ResidentTrigger",
    "ResourceService",
    "Retry",
    "RetryAfter",
    "Schedule",
    "ScheduledCapability",
    "SendResult",
    "ServiceError",
    "ServiceErrorKind",
    "Services",
    "StorageProvider",
    "StorageService",
    "StorageUpload",
    "StoredObject",
    "User",
    "UserPage",
    "UserService",
    "Waiter",
]

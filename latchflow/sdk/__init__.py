"""What a plugin author imports, and nothing else.

A plugin is a folder with a ``plugin.toml`` and a package that binds ``plugin``::

    from latchflow.sdk import ActionCall, Plugin

    plugin = Plugin()

    @plugin.action("greet", display_name="Greet", config_schema=GreetConfig)
    async def greet(call: ActionCall[GreetConfig]) -> dict[str, str]:
        return {"greeting": f"Hello {call.config.name}"}

A plugin never reports "started" or "finished": core does, around a plain function that returns or raises.
"""

from latchflow.sdk.actions import ActionCall, ActionResult, Invocation, RetryAfter
from latchflow.sdk.errors import PermanentFailure, Retry, ServiceError, ServiceErrorKind
from latchflow.sdk.plugin import ActionCapability, InboundCapability, Plugin
from latchflow.sdk.services import (
    EmailAddress,
    EmailMessage,
    EmailService,
    HttpRequest,
    HttpResponse,
    HttpService,
    SendResult,
    Services,
)
from latchflow.sdk.triggers import Emit, InboundRequest, Reject

SDK_VERSION = 1
"""The major version a ``plugin.toml`` names in ``sdk = ">=1,<2"``."""

__all__ = [
    "SDK_VERSION",
    "ActionCall",
    "ActionCapability",
    "ActionResult",
    "EmailAddress",
    "EmailMessage",
    "EmailService",
    "Emit",
    "HttpRequest",
    "HttpResponse",
    "HttpService",
    "InboundCapability",
    "InboundRequest",
    "Invocation",
    "PermanentFailure",
    "Plugin",
    "Reject",
    "Retry",
    "RetryAfter",
    "SendResult",
    "ServiceError",
    "ServiceErrorKind",
    "Services",
]

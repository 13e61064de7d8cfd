"""The trigger ``webhook``: one event per authentic HTTP request."""

from latchflow.sdk import Plugin

from .config import WebhookConfig
from .trigger import webhook

plugin = Plugin()
plugin.inbound_trigger("webhook", display_name="Webhook", config_schema=WebhookConfig)(webhook)

__all__ = ["plugin"]

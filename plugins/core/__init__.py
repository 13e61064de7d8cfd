"""The built-in actions."""

from latchflow.sdk import Plugin

from .email import EmailSendConfig, email_send
from .http import HttpRequestConfig, http_request
from .transform import TransformConfig, transform

plugin = Plugin()
plugin.action("email.send", display_name="Send an email", config_schema=EmailSendConfig, scopes=["email:send"])(
    email_send
)
plugin.action("http.request", display_name="Send an HTTP request", config_schema=HttpRequestConfig)(http_request)
plugin.action("transform", display_name="Compute values", config_schema=TransformConfig, inline=True)(transform)

__all__ = ["plugin"]

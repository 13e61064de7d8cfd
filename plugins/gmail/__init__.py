"""The email provider ``gmail``."""

from latchflow.sdk import Plugin

from .config import DEFAULTS, GmailConfig
from .provider import GmailProvider

plugin = Plugin()
plugin.provider(kind="email", id="gmail", display_name="Gmail", config_schema=GmailConfig, defaults=DEFAULTS)(
    GmailProvider
)

__all__ = ["plugin"]

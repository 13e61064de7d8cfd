"""The built-in actions."""

from latchflow.sdk import Plugin

from .bundles import BundleToggleConfig, bundle_toggle
from .command import CommandRunConfig, command_run
from .email import EmailSendConfig, email_send
from .http import HttpRequestConfig, http_request
from .pipelines import PipelineToggleConfig, pipeline_toggle
from .storage import StoragePublishConfig, storage_publish
from .transform import TransformConfig, transform
from .users import UserInviteConfig, user_invite

plugin = Plugin()
plugin.action(
    "email.send",
    display_name="Send an email",
    config_schema=EmailSendConfig,
    scopes=["email:send", "storage:read"],
)(email_send)
plugin.action("http.request", display_name="Send an HTTP request", config_schema=HttpRequestConfig)(http_request)
plugin.action("transform", display_name="Compute values", config_schema=TransformConfig, inline=True)(transform)
plugin.action("user.invite", display_name="Invite a user", config_schema=UserInviteConfig, scopes=["users:write"])(
    user_invite
)
plugin.action(
    "pipeline.toggle",
    display_name="Switch a pipeline on or off",
    config_schema=PipelineToggleConfig,
    scopes=["pipelines:toggle"],
)(pipeline_toggle)
plugin.action(
    "storage.publish",
    display_name="Make a link to a bundle",
    config_schema=StoragePublishConfig,
    scopes=["storage:read"],
)(storage_publish)
plugin.action(
    "bundle.toggle",
    display_name="Switch a bundle on or off",
    config_schema=BundleToggleConfig,
    scopes=["bundles:toggle"],
)(bundle_toggle)
plugin.action("command.run", display_name="Run a program", config_schema=CommandRunConfig)(command_run)

__all__ = ["plugin"]

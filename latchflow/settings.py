"""The only reader of the environment. Every setting is documented here and in docs/reference/settings.md."""

import os
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from latchflow.errors import ConfigurationError

_VISIBLE = re.compile(r"[\x21-\x7e]+")


class Settings(BaseSettings):
    """What the programs are told from outside. Temporal's own ``TEMPORAL_*`` variables are read by its SDK."""

    model_config = SettingsConfigDict(extra="ignore", frozen=True, ignored_types=(cached_property,))

    database_url: SecretStr = Field(SecretStr(""), alias="DATABASE_URL")
    """PostgreSQL URL of the application's role."""
    database_migration_url: SecretStr = Field(SecretStr(""), alias="DATABASE_MIGRATION_URL")
    """PostgreSQL URL of the owner's role; only `latchflow migrate` uses it."""
    database_pool_size: int = Field(10, alias="DATABASE_POOL_SIZE", ge=2, le=200)
    """Connections of one process at most."""
    encryption_key: SecretStr = Field(SecretStr(""), alias="ENCRYPTION_KEY")
    """``kid:base64-32-bytes[,…]``; the first key seals, all open."""

    home: Path | None = Field(None, alias="LATCHFLOW_HOME")
    """The application root, the folder that holds ``worker.py``."""
    plugins_path: str = Field("", alias="PLUGINS_PATH")
    """More plugin folders, separated by ``os.pathsep``."""
    plugin_auto_enable: bool = Field(default=False, alias="PLUGIN_AUTO_ENABLE")
    """Enable every plugin found, with the scopes it declares."""
    dedicated_plugins: str = Field("", alias="LATCHFLOW_DEDICATED_PLUGINS")
    """Names of plugins with a task queue and worker processes of their own, separated by commas."""
    plugin_hot_reload: bool = Field(default=False, alias="PLUGIN_HOT_RELOAD")
    """Let changed plugins take over while everything runs; for development on one machine."""
    plugin_cache_dir: Path | None = Field(None, alias="LATCHFLOW_PLUGIN_CACHE_DIR")
    """Where plugins' code is copied before it is imported; by default below the system's temporary folder."""
    plugin_action_concurrency: int = Field(10, alias="PLUGIN_ACTION_CONCURRENCY", ge=1, le=1000)
    """Actions at once per worker process."""

    command_run_enabled: bool = Field(default=False, alias="COMMAND_RUN_ENABLED")
    """Let the action ``command.run`` run programs on the workers' machines."""

    smtp_url: SecretStr = Field(SecretStr(""), alias="SMTP_URL")
    """``smtp://[user:password@]host[:port]``, ``smtps://…``, or ``smtp+starttls://…``."""
    smtp_from: str = Field("", alias="SMTP_FROM")
    """The default sender of mails."""
    http_egress_allow: str = Field("", alias="HTTP_EGRESS_ALLOW")
    """Hosts, addresses or CIDR blocks, each with optional ``:port``, that the egress guard lets through."""

    api_url: str = Field("", alias="LATCHFLOW_API_URL")
    """The server that verbs of the command line talk to."""
    token: SecretStr = Field(SecretStr(""), alias="LATCHFLOW_TOKEN")
    """``lfk_…``, with which they do."""
    api_host: str = Field("127.0.0.1", alias="LATCHFLOW_API_HOST")
    api_port: int = Field(8080, alias="LATCHFLOW_API_PORT", ge=0, le=65535)
    public_url: str = Field("", alias="LATCHFLOW_PUBLIC_URL")
    """Where people reach this API from outside: links in mails begin with it; without a ``/`` at its end."""
    max_body_bytes: int = Field(1024 * 1024, alias="LATCHFLOW_MAX_BODY_BYTES", ge=1024)
    """Larger request bodies are refused with 413 before they are read whole."""
    bootstrap_token: SecretStr = Field(SecretStr(""), alias="LATCHFLOW_BOOTSTRAP_TOKEN")
    """``lfk_…``; the API makes it a token with all scopes when it starts."""
    temporal_ui_url: str = Field("", alias="LATCHFLOW_TEMPORAL_UI_URL")
    """Where admins reach the Temporal Web UI; links in answers and the codec's CORS follow it."""
    codec_ui_key: SecretStr = Field(SecretStr(""), alias="LATCHFLOW_CODEC_UI_KEY")
    """Opens ``/codec/ui/{key}/decode`` for the development Web UI, which cannot send a token."""

    storage_dir: Path | None = Field(None, alias="LATCHFLOW_STORAGE_DIR")
    """The folder for the objects of bundles while no storage provider is configured; the same for all processes."""
    max_object_bytes: int = Field(5 * 1024**3, alias="LATCHFLOW_MAX_OBJECT_BYTES", ge=1)
    """Larger objects are refused while they are uploaded."""

    worker_metrics_address: str = Field("127.0.0.1:0", alias="LATCHFLOW_WORKER_METRICS_ADDRESS")
    """Where the worker serves Prometheus metrics; port 0 switches them off."""
    workflow_sandbox: bool = Field(default=False, alias="LATCHFLOW_WORKFLOW_SANDBOX")
    """Run workflow code in Temporal's sandbox: costs CPU, finds non-deterministic code. On in tests."""
    log_format: Literal["console", "json"] = Field("json", alias="LATCHFLOW_LOG_FORMAT")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", alias="LATCHFLOW_LOG_LEVEL")

    @field_validator("home", "plugin_cache_dir", "storage_dir", mode="before")
    @classmethod
    def _empty_is_unset(cls, value: object) -> object:
        return value or None

    @field_validator("public_url")
    @classmethod
    def _public_url(cls, value: str) -> str:
        if not value:
            return value
        parts = urlsplit(value)
        is_plain = not (parts.query or parts.fragment or parts.username or parts.password)
        if parts.scheme not in ("http", "https") or not parts.hostname or not is_plain or not _VISIBLE.fullmatch(value):
            raise ValueError("write http:// or https://, a host, and a path if there is one; no user, query or #")
        return value.rstrip("/")

    @property
    def switched_off(self) -> Mapping[tuple[str, str], str]:
        """Actions, by plugin and key, that the operator has not switched on, each with what to do about it."""
        return {
            action: f"The action {action[1]} is off in this deployment. An operator sets {variable}=true."
            for action, (variable, is_on) in {
                ("@latchflow/core", "command.run"): ("COMMAND_RUN_ENABLED", self.command_run_enabled)
            }.items()
            if not is_on
        }

    @cached_property
    def dedicated(self) -> frozenset[str]:
        """The names in ``LATCHFLOW_DEDICATED_PLUGINS``."""
        return names_of(self.dedicated_plugins)

    @classmethod
    def load(cls) -> "Settings":
        """Read the environment.

        Raises:
            ConfigurationError: A variable has no usable value; the message names it.
        """
        try:
            return cls()
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"{name}: {first['msg']}. Correct this environment variable.") from None

    def require_database_url(self) -> str:
        """The application's database URL."""
        return _required(self.database_url, "DATABASE_URL", "postgresql://latchflow_app:…@host:5432/latchflow")

    def require_migration_url(self) -> str:
        """The owner's database URL."""
        example = "postgresql://latchflow_owner:…@host:5432/latchflow"
        return _required(self.database_migration_url, "DATABASE_MIGRATION_URL", example)


def names_of(listed: str) -> frozenset[str]:
    """The names in a list separated by commas."""
    return frozenset(name for part in listed.split(",") if (name := part.strip()))


def _required(secret: SecretStr, name: str, example: str) -> str:
    value = secret.get_secret_value()
    if not value:
        raise ConfigurationError(f"{name} is not set. Set it, for example to {example}")
    return value


CORE_VARIABLES = frozenset(str(field.alias) for field in Settings.model_fields.values())
"""The variables that are core's: no provider of a plugin may ask for one."""

_RESERVED_PREFIXES = {
    **dict.fromkeys(("LATCHFLOW_", "TEMPORAL_", "OTEL_", "PG"), "core"),
    # By these the machine itself is known to its cloud. The product's own plugins do without them too.
    **dict.fromkeys(("AWS_", "AZURE_", "GOOGLE_"), "the tools of a cloud"),
}


def owner_of_variable(name: str) -> str | None:
    """Whose a variable is that no provider of a plugin may ask for; None for every other."""
    if name in CORE_VARIABLES:
        return "core"
    return next((owner for prefix, owner in _RESERVED_PREFIXES.items() if name.startswith(prefix)), None)


def provider_variables(names: Iterable[str]) -> dict[str, str]:
    """Those of these variables that are set: they stand in for what the config of a provider lacks.

    Read at use, and no variable of core's or of a cloud's tools, whatever a plugin declares.
    """
    return {name: value for name in names if owner_of_variable(name) is None and (value := os.environ.get(name))}

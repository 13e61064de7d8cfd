"""The services of a process, over a deployment's database and plugins of the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from psycopg.types.json import Jsonb

from latchflow.names import plugin_id
from latchflow.runtime.lifecycle.registry import Registry
from latchflow.runtime.providers.host_services import HostServices, open_services
from latchflow.settings import Settings
from tests.support.execution import FAKE_KEY, Deployment


async def add_providers(deployment: Deployment, registry: Registry) -> None:
    """Record the registry's plugins and providers, as the loader does."""
    for name, plugin in registry.plugins.items():
        await deployment.rows(
            """
            INSERT INTO plugins (id, name, display_name, version, status, scopes, granted_scopes, code_hash)
            VALUES (%s, %s, %s, %s, 'ENABLED', '{}', '{}', %s) ON CONFLICT DO NOTHING
            """,
            plugin_id(name),
            name,
            name,
            plugin.version,
            plugin.code_hash,
        )
    for (name, identifier), loaded in registry.providers.items():
        await deployment.rows(
            "INSERT INTO providers VALUES (%s, %s, %s, %s, %s, %s)",
            plugin_id(name),
            loaded.declaration.kind,
            identifier,
            loaded.declaration.display_name,
            Jsonb(dict(loaded.schema)),
            Jsonb(dict(loaded.declaration.defaults)),
        )


@asynccontextmanager
async def running_host(deployment: Deployment, registry: Registry, **settings: Any) -> AsyncIterator[HostServices]:
    """What a worker or an API process has, with these settings."""
    values = {"DATABASE_URL": deployment.urls.url, "ENCRYPTION_KEY": FAKE_KEY, **settings}
    made = Settings.model_validate(values)
    async with open_services(made, deployment.database, deployment.keyring, lambda: registry) as services:
        yield services

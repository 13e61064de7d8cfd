"""Switching things of the deployment on and off, for plugins."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

from latchflow.errors import NotFoundError, UnavailableError
from latchflow.sdk import ServiceError
from latchflow.store import bundles
from latchflow.store.database import Connection, Database
from latchflow.store.pipeline_changes import change_pipeline
from latchflow.store.pipelines import get_pipeline


class Resources:
    """Implements `latchflow.runtime.guard.ResourceBackend`. Setting the state that there is changes nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def set_bundle_enabled(self, bundle_id: UUID, is_enabled: bool, *, actor: str) -> None:
        """Set a bundle's state. Raises as `set_pipeline_enabled`."""
        async with self._transaction() as connection:
            await bundles.set_enabled(connection, bundle_id, is_enabled, actor=actor)

    async def set_pipeline_enabled(self, pipeline_id: UUID, is_enabled: bool, *, actor: str) -> None:
        """Set a pipeline's state: a new version of it, audited like an admin's change.

        Raises:
            ServiceError: ``not_found``; ``retryable`` when the database is away.
        """
        async with self._transaction() as connection:
            pipeline = await get_pipeline(connection, pipeline_id, lock=True)
            changes = {} if pipeline.is_enabled == is_enabled else {"is_enabled": is_enabled}
            await change_pipeline(connection, pipeline_id, changes, expected=None, actor=actor)

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Connection]:
        try:
            async with self._database.transaction() as connection:
                yield connection
        except NotFoundError as error:
            raise ServiceError("not_found", error.message) from None
        except UnavailableError as error:
            raise ServiceError("retryable", error.message) from error

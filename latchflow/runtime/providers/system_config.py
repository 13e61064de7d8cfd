"""Reading and changing what admins configure at run time."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from latchflow.config_schemas import MASK
from latchflow.crypto import Keyring
from latchflow.errors import FieldError, InvalidInputError, NotFoundError
from latchflow.runtime.providers.config_keys import (
    HTTP_EGRESS_ALLOW,
    SMTP_FROM,
    SMTP_URL,
    ConfigKey,
    egress_key,
    known_keys,
    unknown_key,
)
from latchflow.schema_walk import pointer_of
from latchflow.settings import Settings
from latchflow.store import system_config
from latchflow.store.database import Connection, Database
from latchflow.store.system_config import SealedValue, StoredValue

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class NewValue:
    """A value to store.

    Attributes:
        is_secret: Hide it whole from whoever reads it; None leaves that as it is.
    """

    value: Any
    is_secret: bool | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A key as people may read it.

    Attributes:
        value: Without its secrets; None when nothing is configured.
        source: ``database``, ``env``, or None when nothing is configured.
        fields: Of a provider's config, the source of each property.
        problem: Why a provider cannot use its config.
        effective: What holds where the environment adds to the value.
    """

    key: str
    value: Any
    is_secret: bool
    source: str | None
    fields: Mapping[str, str] | None
    problem: str | None
    effective: str | None
    updated_at: datetime | None
    updated_by: str | None


class SystemConfig:
    """The system config of the deployment, read anew at every use: a change holds for whatever begins afterwards.

    Made on the loop that the database belongs to; `egress_allow` may be awaited on any loop.
    """

    def __init__(self, database: Database, keyring: Keyring, settings: Settings) -> None:
        self._database = database
        self._keyring = keyring
        self._settings = settings
        self._host = asyncio.get_running_loop()
        self._opened: dict[str, tuple[bytes, StoredValue]] = {}

    async def stored(self, keys: Sequence[str]) -> dict[str, Any]:
        """What the database has under these keys, secrets too.

        Raises:
            UnavailableError: The database is away.
            SealError: A value cannot be opened.
        """
        async with self._database.connection() as connection:
            return await self.stored_on(connection, keys)

    async def stored_on(self, connection: Connection, keys: Sequence[str]) -> dict[str, Any]:
        """As `stored`, by a connection at hand."""
        found = await system_config.load(connection, keys)
        return {key: self._open(key, sealed).value for key, sealed in found.items()}

    async def smtp(self) -> tuple[str, str]:
        """``SMTP_URL`` and ``SMTP_FROM`` of now; the database before the environment. Raises as `stored`."""
        stored = await self.stored([SMTP_URL, SMTP_FROM])
        url = stored.get(SMTP_URL, self._settings.smtp_url.get_secret_value())
        return url, stored.get(SMTP_FROM, self._settings.smtp_from)

    async def egress_allow(self) -> str:
        """``HTTP_EGRESS_ALLOW`` of now: what the environment opens, and what the database opens. Raises as `stored`."""
        stored = await self._on_host(self.stored([HTTP_EGRESS_ALLOW]))
        return egress_key(self._settings).joined(stored.get(HTTP_EGRESS_ALLOW))

    async def entries(self) -> list[Entry]:
        """Every key there is, in order. Raises as `stored`."""
        async with self._database.connection() as connection:
            keys = await self._keys(connection)
            found = await system_config.load(connection)
        return [self._entry(key, found.get(name)) for name, key in keys.items()]

    async def entry(self, name: str) -> Entry:
        """One key.

        Raises:
            InvalidInputError: There is no such key.
        """
        async with self._database.connection() as connection:
            key = await self._key(connection, name)
            found = await system_config.load(connection, [name])
        return self._entry(key, found.get(name))

    async def candidate(self, name: str, value: Any) -> Any:
        """What `put` would store.

        Raises:
            InvalidInputError: It would refuse.
        """
        async with self._database.connection() as connection:
            key = await self._key(connection, name)
            found = await system_config.load(connection, [name])
        return self._checked(key, NewValue(value=value), found.get(name))

    async def put(self, changes: Mapping[str, NewValue], *, actor: str) -> None:
        """Store these values, all or none.

        Raises:
            InvalidInputError: With pointers below ``/{key}/value``.
        """
        async with self._database.transaction() as connection:
            await system_config.lock(connection)
            keys = await self._keys(connection)
            found = await system_config.load(connection, list(changes))
            faults: list[FieldError] = []
            for name, change in sorted(changes.items()):
                try:
                    if name not in keys:
                        raise unknown_key(name, keys)
                    await self._put(connection, keys[name], change, found.get(name), actor)
                except InvalidInputError as error:
                    place = pointer_of((name,))
                    faults += [replace(fault, pointer=place + fault.pointer) for fault in error.errors]
            if faults:
                raise InvalidInputError("The system config cannot be changed like this.", faults)

    async def put_one(self, name: str, change: NewValue, *, actor: str) -> None:
        """Store one value.

        Raises:
            InvalidInputError: With pointers below ``/value``.
        """
        async with self._database.transaction() as connection:
            await system_config.lock(connection)
            key = await self._key(connection, name)
            found = await system_config.load(connection, [name])
            await self._put(connection, key, change, found.get(name), actor)

    async def delete(self, name: str, *, actor: str) -> None:
        """Remove a value; the environment's holds again.

        Raises:
            InvalidInputError: There is no such key.
            NotFoundError: Nothing is stored there.
        """
        async with self._database.transaction() as connection:
            await system_config.lock(connection)
            await self._key(connection, name)
            if not await system_config.remove(connection, name, actor=actor):
                raise NotFoundError(f"Nothing is stored under {name}.")

    async def _keys(self, connection: Connection) -> dict[str, ConfigKey]:
        return known_keys(self._settings, await system_config.providers(connection))

    async def _key(self, connection: Connection, name: str) -> ConfigKey:
        keys = await self._keys(connection)
        if name not in keys:
            raise unknown_key(name, keys)
        return keys[name]

    async def _put(
        self, connection: Connection, key: ConfigKey, change: NewValue, sealed: SealedValue | None, actor: str
    ) -> None:
        value = self._checked(key, change, sealed)
        is_secret = change.is_secret
        if is_secret is None:
            is_secret = sealed is not None and sealed.is_secret
        fields = key.fields(value)
        await system_config.put(
            connection, self._keyring, key.name, value, is_secret=is_secret, fields=fields, actor=actor
        )

    def _checked(self, key: ConfigKey, change: NewValue, sealed: SealedValue | None) -> Any:
        stored = self._open(key.name, sealed) if sealed is not None else None
        if stored is not None and stored.is_secret:
            stays_secret = change.is_secret is not False
            if change.value == MASK and stays_secret:
                return stored.value
            # What was hidden whole stays hidden: nothing of it is kept in a value that people may read.
            stored = stored if stays_secret else None
        return key.checked(change.value, stored.value if stored is not None else None)

    def _entry(self, key: ConfigKey, sealed: SealedValue | None) -> Entry:
        stored = self._open(key.name, sealed) if sealed is not None else None
        shown = key.shown(stored.value if stored is not None else None)
        is_secret = stored is not None and stored.is_secret
        return Entry(
            key=key.name,
            value=MASK if is_secret else shown.value,
            is_secret=is_secret,
            source=shown.source,
            fields=shown.fields,
            problem=shown.problem,
            effective=MASK if is_secret and shown.effective else shown.effective,
            updated_at=stored.updated_at if stored is not None else None,
            updated_by=stored.updated_by if stored is not None else None,
        )

    def _open(self, key: str, sealed: SealedValue) -> StoredValue:
        known = self._opened.get(key)
        if known is None or known[0] != sealed.sealed:
            known = self._opened[key] = (sealed.sealed, sealed.opened(self._keyring, key))
        return known[1]

    async def _on_host(self, work: Coroutine[Any, Any, T]) -> T:
        if asyncio.get_running_loop() is self._host:
            return await work
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._host))

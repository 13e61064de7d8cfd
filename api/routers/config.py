"""``/system/config``."""

from typing import Annotated

from fastapi import Path
from pydantic import Field

from api.auth import Caller, requires
from api.context import ContextDep
from api.paging import Cursor, Limit, decode_cursor, encode_cursor
from api.routing import admin_router
from api.schemas.config import ConfigEntry, ConfigPut, ConfigTest, ConfigTestResult
from api.schemas.conventions import Listing
from latchflow.runtime.providers.config_trials import try_out
from latchflow.runtime.providers.system_config import NewValue
from latchflow.store.system_config import Trial, record_trial

router = admin_router("/system/config", "config")

Reader = Annotated[Caller, requires("config:read")]
Writer = Annotated[Caller, requires("config:write")]
Key = Annotated[str, Path(max_length=300)]
Changes = Annotated[dict[str, ConfigPut], Field(min_length=1, max_length=200)]

_LISTING = "config"


@router.get("", summary="List the system config", operation_id="listConfig")
async def list_config(context: ContextDep, _: Reader, limit: Limit = 50, cursor: Cursor = None) -> Listing[ConfigEntry]:
    """Every key there is, configured or not, with the source of what holds now. Secrets show as ``********``."""
    after = decode_cursor(_LISTING, cursor)
    entries = [entry for entry in await context.services.config.entries() if not after or entry.key > after[0]]
    page = [ConfigEntry.model_validate(entry) for entry in entries[:limit]]
    next_key = (page[-1].key,) if len(entries) > limit else None
    return Listing(items=page, next_cursor=encode_cursor(_LISTING, next_key))


@router.put("", summary="Change several keys", operation_id="changeConfig")
async def change_config(context: ContextDep, caller: Writer, body: Changes) -> Listing[ConfigEntry]:
    """An object of keys, each with ``value`` and ``isSecret``: all are stored, or none. Answers with those keys."""
    config = context.services.config
    await config.put({key: _new(put) for key, put in body.items()}, actor=caller.name)
    items = [ConfigEntry.model_validate(entry) for entry in await config.entries() if entry.key in body]
    return Listing(items=items, next_cursor=None)


@router.post("/test", summary="Try a value out", operation_id="testConfig")
async def try_config(context: ContextDep, caller: Writer, body: ConfigTest) -> ConfigTestResult:
    """Mail servers and email providers are really connected to; with ``to`` a mail is sent. Audited."""
    outcome = "refused"
    try:
        result = await try_out(context.services, body.key, body.value, to=body.to)
        outcome = "ok" if result.ok else "failed"
    finally:
        trial = Trial(key=body.key, has_value=body.value is not None, to=body.to, outcome=outcome)
        async with context.database.connection() as connection:
            await record_trial(connection, trial, actor=caller.name)
    return ConfigTestResult.model_validate(result)


@router.get("/{key}", summary="Read a key", operation_id="getConfig")
async def get_config(context: ContextDep, _: Reader, key: Key) -> ConfigEntry:
    """What holds now. Secrets show as ``********``."""
    return ConfigEntry.model_validate(await context.services.config.entry(key))


@router.put("/{key}", summary="Change a key", operation_id="putConfig")
async def put_config(context: ContextDep, caller: Writer, key: Key, body: ConfigPut) -> ConfigEntry:
    """Replaces the value as a whole; used by whatever begins afterwards, in every process."""
    await context.services.config.put_one(key, _new(body), actor=caller.name)
    return ConfigEntry.model_validate(await context.services.config.entry(key))


@router.delete("/{key}", summary="Remove a key", operation_id="deleteConfig", status_code=204)
async def delete_config(context: ContextDep, caller: Writer, key: Key) -> None:
    """The value of the environment holds again."""
    await context.services.config.delete(key, actor=caller.name)


def _new(put: ConfigPut) -> NewValue:
    return NewValue(value=put.value, is_secret=put.is_secret)

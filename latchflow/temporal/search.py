"""The search attributes of events: by them Temporal's Web UI finds events by trigger, pipeline and status.

Temporal never seals them. They hold names and statuses only.
"""

import asyncio
from datetime import timedelta

import structlog
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.service import RPCError

from latchflow.model import EventStatus, Manifest
from latchflow.names import SEARCH_PIPELINES, SEARCH_STATUS, SEARCH_TRIGGER

TRIGGER = SearchAttributeKey.for_keyword(SEARCH_TRIGGER)
PIPELINES = SearchAttributeKey.for_keyword_list(SEARCH_PIPELINES)
STATUS = SearchAttributeKey.for_keyword(SEARCH_STATUS)

_TYPES = {
    SEARCH_TRIGGER: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
    SEARCH_PIPELINES: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD_LIST,
    SEARCH_STATUS: IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD,
}
_RPC_TIMEOUT = timedelta(seconds=5)
_AGAIN_SECONDS = 30.0
_MOST_PIPELINES = 20
"""Of one event: Temporal takes 2 KiB per value and 40 KiB for all, and a name has up to 200 characters."""

log = structlog.get_logger(__name__)


def attributes_of(manifest: Manifest) -> TypedSearchAttributes:
    """What the workflow of an event begins with."""
    names = [run.pipeline_name for run in manifest.runs[:_MOST_PIPELINES]]
    return TypedSearchAttributes(
        [
            SearchAttributePair(TRIGGER, manifest.trigger_name),
            SearchAttributePair(PIPELINES, names),
            SearchAttributePair(STATUS, EventStatus.RUNNING.value),
        ]
    )


async def register(client: Client) -> bool:
    """Make the attributes known to the namespace, those that it lacks. Safe to repeat, and to do twice at once.

    Returns:
        Whether they are known now. Where it may not be done, as in many a managed namespace, its administrator adds
        them; events start without until then.
    """
    where = client.namespace
    try:
        listed = await client.operator_service.list_search_attributes(
            ListSearchAttributesRequest(namespace=where), timeout=_RPC_TIMEOUT
        )
        wanted = {name: kind for name, kind in _TYPES.items() if name not in listed.custom_attributes}
        if wanted:
            await client.operator_service.add_search_attributes(
                AddSearchAttributesRequest(namespace=where, search_attributes=wanted), timeout=_RPC_TIMEOUT
            )
            log.info("search attributes registered", names=sorted(wanted), namespace=where)
    except (RPCError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        log.warning("search attributes are not registered: events start without them", reason=reason, namespace=where)
        return False
    return True


async def keep_registering(client: Client) -> None:
    """Register them once Temporal is there and lets it happen; the pauses grow to an hour."""
    pause = _AGAIN_SECONDS
    while not await register(client):
        await asyncio.sleep(pause)
        pause = min(pause * 2, 3600.0)

"""Reading an event's history out of Temporal, decoded: what the engine itself recorded."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client
from temporalio.converter import DataConverter
from temporalio.service import RPCError, RPCStatusCode

from latchflow.errors import MalformedError, NotFoundError, SealError, UnavailableError

_HIDDEN_ATTRIBUTES = ("task_token", "request_id", "sdk_metadata", "metering_metadata", "header")


@dataclass(frozen=True, kw_only=True)
class HistoryItem:
    """One entry of Temporal's history.

    Attributes:
        type: Temporal's name, for example ``ActivityTaskScheduled``.
        attributes: With every payload decoded; one that cannot be opened says why.
    """

    event_id: int
    time: datetime
    type: str
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class HistoryPage:
    """Entries in their order, and where to go on; None at the end."""

    items: tuple[HistoryItem, ...]
    next_page_token: bytes | None


async def read_history(client: Client, workflow_id: str, *, limit: int, page_token: bytes | None) -> HistoryPage:
    """One page of a workflow's history.

    Raises:
        NotFoundError: Temporal has no such workflow (any more).
        MalformedError: Temporal does not know the page token.
        UnavailableError: Temporal is away.
    """
    iterator = client.get_workflow_handle(workflow_id).fetch_history_events(page_size=limit, next_page_token=page_token)
    try:
        await iterator.fetch_next_page()
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFoundError("Temporal keeps no history of this event any more.") from None
        if error.status is RPCStatusCode.INVALID_ARGUMENT:
            raise MalformedError("This cursor is none that was handed out.") from None
        raise UnavailableError("Temporal is away. Try again shortly.") from error
    except RuntimeError as error:
        raise UnavailableError("Temporal is away. Try again shortly.") from error
    page = iterator.current_page or []
    items = tuple([await _item(client.data_converter, event) for event in page])
    return HistoryPage(items=items, next_page_token=iterator.next_page_token)


async def _item(converter: DataConverter, event: HistoryEvent) -> HistoryItem:
    attributes = getattr(event, event.WhichOneof("attributes") or "", None)
    decoded: dict[str, Any] = {}
    if isinstance(attributes, Message):
        decoded = await _decode(converter, attributes)
    if event.HasField("user_metadata"):
        decoded |= await _decode(converter, event.user_metadata)
    name = EventType.Name(event.event_type).removeprefix("EVENT_TYPE_")
    return HistoryItem(
        event_id=event.event_id,
        time=event.event_time.ToDatetime(tzinfo=UTC),
        type="".join(word.capitalize() for word in name.split("_")),
        attributes=decoded,
    )


async def _decode(converter: DataConverter, message: Message) -> dict[str, Any]:
    """A message as a dict, payloads replaced by what they hold."""
    found: dict[str, Any] = {}
    for descriptor, value in message.ListFields():
        if descriptor.name in _HIDDEN_ATTRIBUTES:
            continue
        key = descriptor.json_name
        if isinstance(value, Payload):
            found[key] = await _value(converter, value)
        elif descriptor.message_type is not None and descriptor.message_type.GetOptions().map_entry:
            found[key] = {
                name: await _any(converter, item) if isinstance(item, Message) else item for name, item in value.items()
            }
        elif isinstance(value, Message):
            found[key] = await _any(converter, value)
        elif descriptor.is_repeated and descriptor.message_type is not None:
            found[key] = [await _any(converter, item) for item in value]
        elif descriptor.enum_type is not None and not descriptor.is_repeated:
            found[key] = descriptor.enum_type.values_by_number[value].name
        elif isinstance(value, bytes):
            continue
        else:
            found[key] = list(value) if descriptor.is_repeated else value
    return found


async def _any(converter: DataConverter, message: Message) -> Any:
    if isinstance(message, Payload):
        return await _value(converter, message)
    if message.DESCRIPTOR.full_name in ("google.protobuf.Timestamp", "google.protobuf.Duration"):
        return MessageToDict(message)
    if message.DESCRIPTOR.full_name == "temporal.api.common.v1.Payloads":
        return [await _value(converter, payload) for payload in message.payloads]  # type: ignore[attr-defined]
    return await _decode(converter, message)


async def _value(converter: DataConverter, payload: Payload) -> Any:
    try:
        decoded = (await converter.payload_codec.decode([payload]))[0] if converter.payload_codec else payload
        return json.loads(decoded.data) if decoded.data else None
    except SealError as error:
        return {"sealed": True, "reason": error.message}
    except ValueError:
        return {"bytes": len(payload.data)}

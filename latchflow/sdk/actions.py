"""The details objects of an action: what it is called with and what it may answer."""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar
from uuid import UUID

from latchflow.sdk.logger import Logger
from latchflow.sdk.services import Services

ConfigT = TypeVar("ConfigT")
ResultT = TypeVar("ResultT")


class Waiter(Protocol):
    """Lets a thread wait for something asynchronous."""

    def __call__(self, awaitable: Awaitable[ResultT], /) -> ResultT:
        """The awaitable's result."""
        ...


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """Where this call stands.

    Attributes:
        id: The invocation; equal for all its attempts.
        attempt: The number of this attempt, from 1.
        event_id: The trigger event that owes this invocation.
        trigger_id: The trigger definition that fired.
        pipeline_id: The pipeline it runs for.
        step_name: The step's name in that pipeline.
        invoker: Who fired the event by hand; None when a trigger did.
    """

    id: UUID
    attempt: int
    event_id: UUID
    trigger_id: UUID
    pipeline_id: UUID
    step_name: str
    invoker: str | None = None


@dataclass(frozen=True, kw_only=True)
class Callback:
    """What somebody sent to an address of `ActionCall.callback_url`. Whoever has the address may have sent it.

    Attributes:
        body: The JSON value, or the text; None when nothing was sent.
        content_type: As it was sent, like ``application/json``; empty when nothing was.
        received_at: When it came (UTC).
    """

    body: Any
    content_type: str
    received_at: datetime


@dataclass(frozen=True, kw_only=True)
class ActionCall(Generic[ConfigT]):
    """One attempt of one action.

    Attributes:
        config: The definition's config without its secrets: the Pydantic model, or a read-only mapping
            when the capability's schema is a ``dict``.
        secrets: The values of the ``writeOnly`` properties, by property name.
        payload: What the step's ``input`` evaluated to; without an ``input``, the event's context. Read-only.
        is_payload_from_input: True when the step's ``input``, which an admin wrote, built the payload; False when the
            payload is the event's raw context, which whoever fired the trigger wrote.
        invocation: The ids of this call.
        services: What core offers, guarded by the plugin's scopes.
        logger: A logger that already carries the ids.
        idempotency_key: Equal for all attempts of the invocation; hand it to whoever can deduplicate.
        heartbeat: Report progress (JSON-serialisable, shown to the admin). Core keeps the attempt alive by itself.
        deadline: When the attempt ends (UTC), whatever the action does.
        wait: For actions that are a plain ``def``: ``call.wait(call.services.email.send(…))`` runs the call on the
            plugin's loop and waits for it. Never call it from a coroutine.
        callback_url: ``url = await call.callback_url()`` (in a plain ``def``: ``call.wait(call.callback_url())``) makes
            an address for whoever does the work outside. The first POST to it, of JSON or text, lets ``resume`` come
            at once, whatever ``check_after`` says, also when it comes before the action has returned. Each call makes
            another; 20 that nobody has used are the most. It is good until it is used or the invocation has ended.
        callback: In ``resume``, what was sent to such an address; None when ``check_after`` was up. Equal for all
            attempts of that ``resume``; of several that were called, each comes with a ``resume`` of its own.
    """

    config: ConfigT
    secrets: Mapping[str, Any]
    payload: Mapping[str, Any]
    invocation: Invocation
    services: Services
    logger: Logger
    idempotency_key: str
    heartbeat: Callable[[Any], None]
    deadline: datetime
    wait: Waiter
    callback_url: Callable[[], Coroutine[Any, Any, str]]
    callback: Callback | None = None
    is_payload_from_input: bool = False


@dataclass(frozen=True, kw_only=True)
class RetryAfter:
    """A retry as part of a result. See `latchflow.sdk.Retry`, which says the same by raising."""

    after: timedelta
    reason: str


@dataclass(frozen=True, kw_only=True)
class ActionResult:
    """What an action returns when an output alone does not say enough.

    Attributes:
        output: JSON-serialisable; later steps read it as ``steps.<name>.output``.
        retry: Set, it asks for another attempt and the output is dropped.
    """

    output: Any = field(default=None)
    retry: RetryAfter | None = None


@dataclass(frozen=True, kw_only=True)
class Pending:
    """Something was started outside; core waits durably and then calls ``resume(call, state)``.

    ``resume`` is a method of a class action, or the function given as ``resume=`` with the action. It may return
    anything an action may, another `Pending` too. Each call is an attempt of its own that does not count against the
    retry policy; the wait may last days and holds no worker.

    Attributes:
        check_after: When to call ``resume``, from now; a year at most.
        state: JSON-serialisable, handed to ``resume``; stored encrypted.
        deadline: When to give up (UTC): the invocation then ends TIMED_OUT. None: never.
    """

    check_after: timedelta
    state: Any = None
    deadline: datetime | None = None


class Action(Protocol):
    """What a class registered as an action must have.

    It is made once per loaded version, without arguments. It may also have ``async def resume(self, call, state)`` for
    `Pending`, and ``dispose(self)``, called once at the end.
    """

    def execute(self, call: ActionCall[Any], /) -> Any:
        """Carry out one attempt; plain or ``async``."""
        ...

"""The one way in: a firing becomes an event in one transaction, and then a workflow."""

import asyncio
import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import structlog
from temporalio.service import RPCError, RPCStatusCode

from latchflow import plan
from latchflow.crypto import Keyring
from latchflow.errors import ConflictError, InvalidInputError, NotFoundError, TooLargeError, UnavailableError
from latchflow.masking import readable, readable_json
from latchflow.model import AuditKind, Manifest, Phase
from latchflow.names import event_id_of_key
from latchflow.store import audit, events, firings, places
from latchflow.store.database import Connection, Database
from latchflow.store.firings import FiringTrigger, NewEvent
from latchflow.temporal.closing import close_event
from latchflow.temporal.starting import Starter

MAX_CONTEXT_BYTES = 512 * 1024

_Answer = Literal["started", "refused", "away"]
_AWAY = frozenset(
    {
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.RESOURCE_EXHAUSTED,  # it asks for less, whoever asks
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.CANCELLED,
        RPCStatusCode.UNAUTHENTICATED,
        RPCStatusCode.PERMISSION_DENIED,
        RPCStatusCode.NOT_FOUND,  # of the namespace
    }
)

_MOST_STARTS = 200
"""Starts in progress at once; while Temporal hangs, further events are left to the drainer."""

_DRAIN_BATCH = 20

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Firing:
    """One firing of a trigger, before anything was created for it.

    Attributes:
        key: Deduplicates; None makes every firing an event of its own.
        body_hash: SHA-256 of the request's body. Set for a key that the sender did not sign: a reused key must then
            come with the same body.
        invoker: Who fired by hand.
    """

    trigger_id: UUID
    context: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)
    key: str | None = None
    body_hash: bytes | None = None
    scheduled_for: datetime | None = None
    invoker: str | None = None


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A firing that is durable: it has an event, of now or of an earlier delivery."""

    event_id: UUID
    is_duplicate: bool


class Dispatcher:
    """Opens events and starts their workflows.

    Args:
        database: Where events are.
        keyring: Seals their contexts.
        starter: Starts their workflows.
        dedicated: Names of the plugins that have workers of their own (``LATCHFLOW_DEDICATED_PLUGINS``).
    """

    def __init__(
        self, database: Database, keyring: Keyring, starter: Starter, *, dedicated: Collection[str] = ()
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._starter = starter
        self._dedicated = dedicated
        self._starts: set[asyncio.Task[_Answer]] = set()

    async def dispatch(self, firing: Firing) -> Accepted:
        """Make a firing durable; its workflow starts right after the commit, or by the drainer.

        Raises:
            NotFoundError: No such trigger.
            ConflictError: The trigger is disabled, or a dedupe key came again with another body.
            InvalidInputError: The context or the metadata cannot be written as JSON, the metadata holds a NUL
                character, or the key is no Unicode text.
            TooLargeError: The context is over 512 KiB.
            UnavailableError: The database is away; nothing was created.
        """
        context = _as_json(firing.context, "context")
        if len(context) > MAX_CONTEXT_BYTES:
            message = f"The event's context has {len(context)} bytes; at most {MAX_CONTEXT_BYTES} are accepted."
            raise TooLargeError(message)
        _check_metadata(firing.metadata)
        _check_key(firing.key)
        async with self._database.transaction() as connection:
            accepted, manifest, refusal = await self._open(connection, firing, context)
        if refusal is not None:
            raise refusal
        if manifest is not None:
            self.begin(manifest)
        return accepted

    async def open(self, connection: Connection, event: NewEvent, entry: audit.AuditEntry) -> Manifest | None:
        """Open an event whose manifest is ready, in the transaction that has made it.

        Args:
            connection: Inside that transaction, which holds the lock of the trigger if there is one.
            event: The event.
            entry: Says in the audit that it was opened.

        Returns:
            What to `begin` when the transaction is committed; None when the event owes nothing.
        """
        await firings.insert_event(connection, event)
        await audit.record(connection, entry)
        return event.manifest if event.manifest.runs else None

    def begin(self, manifest: Manifest) -> None:
        """Start the workflow of an event whose transaction is committed; what is not started is the drainer's."""
        if len(self._starts) < _MOST_STARTS:
            # Temporal being slow or away must not hold the answer up: the event is durable already.
            task = asyncio.create_task(self._start(manifest))
            self._starts.add(task)
            task.add_done_callback(self._starts.discard)

    async def drain(self, *, older_than_seconds: float = 5.0) -> int:
        """Start everything that was not confirmed in time, the oldest first.

        Returns:
            How many were started: fewer than were waiting when Temporal is away.
        """
        total = 0
        refused: set[UUID] = set()
        while True:
            async with self._database.connection() as connection:
                waiting = await events.unstarted(
                    connection, older_than_seconds=older_than_seconds, limit=_DRAIN_BATCH, leaving_out=refused
                )
            answers = await asyncio.gather(*(self._start(manifest) for manifest in waiting))
            total += answers.count("started")
            # Temporal refuses some for what they are; the others must not wait behind them.
            pairs = zip(waiting, answers, strict=True)
            refused |= {manifest.event_id for manifest, answer in pairs if answer == "refused"}
            if len(waiting) < _DRAIN_BATCH or "away" in answers:
                return total

    async def close(self) -> None:
        """Let starts in progress finish; what does not is the drainer's."""
        if self._starts:
            await asyncio.wait(self._starts, timeout=3)

    async def _open(
        self, connection: Connection, firing: Firing, context: bytes
    ) -> tuple[Accepted, Manifest | None, ConflictError | None]:
        """One event, or the one its key stands for. A refusal is returned, so that its audit entry is committed."""
        trigger = await firings.lock_trigger(connection, firing.trigger_id)
        if trigger is None:
            raise NotFoundError(f"There is no trigger {firing.trigger_id}.")
        if not trigger.is_enabled:
            raise ConflictError(f"The trigger {trigger.name!r} is disabled. Enable it to accept events.")
        event_id = trigger.fresh_id
        if firing.key is not None:
            event_id = event_id_of_key(trigger.id, firing.key)
            key_hash = hashlib.sha256(firing.key.encode()).digest()
            known = await firings.claim_key(connection, trigger.id, key_hash, event_id, firing.body_hash)
            if known is not None:
                accepted = Accepted(event_id=known.event_id, is_duplicate=True)
                if firing.body_hash is not None and known.body_hash not in (None, firing.body_hash):
                    entry = _entry(trigger, firing, Phase.REJECTED, known.event_id, "key reused")
                    await audit.record(connection, entry)
                    message = "This dedupe key came before with another body. Use a new key for a new request."
                    return accepted, None, ConflictError(message)
                await audit.record(connection, _entry(trigger, firing, Phase.DUPLICATE, known.event_id))
                return accepted, None, None
        pipelines = await firings.pipelines_in_force(connection, trigger.id)
        manifest = plan.manifest(event_id, trigger.id, trigger.name, pipelines, self._dedicated)
        event = NewEvent(
            manifest=manifest,
            pipelines=pipelines,
            fired_at=trigger.now,
            scheduled_for=firing.scheduled_for,
            metadata=dict(firing.metadata),
            invoker=firing.invoker,
            context_sealed=self._keyring.seal(context, places.event_context(event_id)),
        )
        opened = await self.open(connection, event, _entry(trigger, firing, Phase.SUCCEEDED, event_id))
        return Accepted(event_id=event_id, is_duplicate=False), opened, None

    async def _start(self, manifest: Manifest) -> _Answer:
        """Start and confirm; what is not started stays with the drainer."""
        try:
            await self._starter.start(manifest)
            async with self._database.connection() as connection:
                await events.confirm_start(connection, manifest.event_id)
        except (RPCError, RuntimeError, UnavailableError) as error:
            if _is_final(error):
                return await self._give_up(manifest, error)
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            log.warning("event not started yet, it will be tried again", event_id=str(manifest.event_id), reason=reason)
            return "away" if _is_away(error) else "refused"
        return "started"

    async def _give_up(self, manifest: Manifest, error: Exception) -> _Answer:
        """Temporal will never take this workflow, whoever asks: the event ends, and says why."""
        reason = f"Temporal refuses its workflow: {error}. Make the pipelines of the trigger smaller."
        try:
            await close_event(self._database, manifest.event_id, outcomes={}, closed_by="dispatch", reason=reason)
        except UnavailableError:
            return "away"
        log.error("event closed, Temporal refuses it", event_id=str(manifest.event_id), reason=str(error))
        return "refused"


def _is_final(error: Exception) -> bool:
    """Whether the refusal is about this workflow itself: its input is larger than Temporal takes."""
    if not isinstance(error, RPCError):
        return False
    is_too_large = error.status is RPCStatusCode.RESOURCE_EXHAUSTED and "larger than max" in error.message
    return error.status is RPCStatusCode.INVALID_ARGUMENT or is_too_large


def _is_away(error: Exception) -> bool:
    """Whether a part is away, so that no other event can be started either."""
    return not isinstance(error, RPCError) or error.status in _AWAY


def _entry(
    trigger: FiringTrigger, firing: Firing, phase: Phase, event_id: UUID, reason: str | None = None
) -> audit.AuditEntry:
    return audit.AuditEntry(
        kind=AuditKind.TRIGGER,
        phase=phase,
        plugin_name=trigger.plugin,
        capability_key=trigger.capability_key,
        trigger_definition_id=trigger.id,
        trigger_event_id=event_id,
        actor=firing.invoker,
        detail={"reason": reason} if reason else {},
    )


def _as_json(value: Mapping[str, Any], what: str) -> bytes:
    try:
        text = json.dumps(dict(value), allow_nan=False, separators=(",", ":"), ensure_ascii=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"The event's {what} cannot be written as JSON: {error}.") from None


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    """Metadata is kept as ``jsonb``, so that it can be queried; that type cannot hold every text."""
    text = _as_json(metadata, "metadata")
    value = json.loads(text)
    if readable_json(value) != value:
        raise InvalidInputError("The event's metadata holds a NUL character (U+0000). Remove it.")


def _check_key(key: str | None) -> None:
    if key is not None and readable(key) != key:
        raise InvalidInputError("The event's dedupe key holds a NUL or half a surrogate pair. Use plain text.")

"""The one way in: a firing becomes an event in one transaction, and then a workflow."""

import asyncio
import hashlib
import json
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import structlog
from temporalio.service import RPCError, RPCStatusCode

from latchflow import plan
from latchflow.crypto import Keyring
from latchflow.errors import ConflictError, InvalidInputError, NotFoundError, TooLargeError, UnavailableError
from latchflow.gate import Rule, Verdict
from latchflow.masking import readable, readable_json
from latchflow.model import AuditKind, Manifest, Phase
from latchflow.names import event_id_of_key
from latchflow.nesting import MAX_DEPTH, nests_deeper
from latchflow.store import audit, events, firings, gates, places
from latchflow.store.database import Connection, Database
from latchflow.store.firings import FiringTrigger, NewEvent
from latchflow.store.gates import Unwanted
from latchflow.temporal.closing import close_event
from latchflow.temporal.displacing import cancel_due, cancel_unwanted
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

_LETS_ALL_RUN = Rule()

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


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What is to be done for an event once the transaction that opened it is committed.

    Attributes:
        to_start: Set when the event runs at once.
        unwanted: Events that it takes the place of.
    """

    to_start: Manifest | None = None
    unwanted: Sequence[Unwanted] = ()


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """What a transaction of a dispatch came to.

    Attributes:
        opening: Set when it opened an event.
        refusal: Raised after the commit, so that its audit entry stays.
    """

    accepted: Accepted
    opening: Opening | None = None
    refusal: ConflictError | None = None


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
        self._starts: set[asyncio.Task[object]] = set()

    async def dispatch(self, firing: Firing) -> Accepted:
        """Make a firing durable; its workflow starts right after the commit, or by the drainer, or when its turn comes.

        Raises:
            NotFoundError: No such trigger.
            ConflictError: The trigger is disabled, or a dedupe key came again with another body.
            InvalidInputError: The context or the metadata cannot be written as JSON or is nested too deeply, the
                metadata holds a NUL character, or the key is no Unicode text.
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
            opened = await self._open(connection, firing, context)
        if opened.refusal is not None:
            raise opened.refusal
        if opened.opening is not None:
            self.begin(opened.opening)
        return opened.accepted

    async def open(
        self, connection: Connection, event: NewEvent, entry: audit.AuditEntry, *, rule: Rule = _LETS_ALL_RUN
    ) -> Opening:
        """Open an event whose manifest is ready, through the gate, in the transaction that has made it.

        Args:
            connection: Inside that transaction, which holds the lock of the trigger if there is one, and no row of an
                event.
            event: The event.
            entry: Says in the audit that it was opened.
            rule: That of its trigger. A repetition that somebody asked for is not skipped by it: it waits.

        Returns:
            What to `begin` when the transaction is committed.
        """
        manifest = event.manifest
        unwanted: Sequence[Unwanted] = ()
        if manifest.runs:  # what owes nothing takes nobody's place
            decision = await gates.decide(connection, manifest.trigger_id, rule)
            if decision.verdict is Verdict.SKIP and event.rerun_of is not None:
                decision = replace(decision, verdict=Verdict.WAIT)
            if decision.cancels_others:
                unwanted = await gates.unwant_others(connection, manifest.trigger_id)
            if decision.verdict is Verdict.SKIP:
                event = replace(event, pipelines=[], manifest=replace(manifest, runs=()))
            event = replace(event, decision=decision)
            gate = {"verdict": decision.verdict, "reason": decision.reason}
            entry = replace(entry, detail={**entry.detail, "gate": gate})
        await firings.insert_event(connection, event)
        await audit.record(connection, entry)
        runs_now = event.decision is not None and event.decision.verdict is Verdict.RUN
        return Opening(to_start=manifest if runs_now else None, unwanted=unwanted)

    def begin(self, opening: Opening) -> None:
        """Start the workflow of an event whose transaction is committed; what is not started is the drainer's."""
        if opening.to_start is not None:
            self.start_soon([opening.to_start])
        if opening.unwanted:
            self._soon(cancel_unwanted(self._database, self._starter, self.start_soon, opening.unwanted))

    def start_soon(self, manifests: Sequence[Manifest]) -> None:
        """Start workflows without waiting for Temporal: it may be slow or away, and the events are durable already."""
        for manifest in manifests:
            self._soon(self._start(manifest))

    def _soon(self, work: Coroutine[Any, Any, object]) -> None:
        if len(self._starts) >= _MOST_STARTS:
            work.close()
            return
        task = asyncio.create_task(work)
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

    async def cancel_due(self) -> int:
        """Ask again to cancel what a newer event took the place of, as long as Temporal did not hear of it.

        Returns:
            How many were asked for, or closed.
        """
        return await cancel_due(self._database, self._starter, self.start_soon)

    async def close(self) -> None:
        """Let starts in progress finish; what does not is the drainer's."""
        if self._starts:
            await asyncio.wait(self._starts, timeout=3)

    async def _open(self, connection: Connection, firing: Firing, context: bytes) -> _Opened:
        """One event, or the one its key stands for."""
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
                    return _Opened(accepted=accepted, refusal=ConflictError(message))
                await audit.record(connection, _entry(trigger, firing, Phase.DUPLICATE, known.event_id))
                return _Opened(accepted=accepted)
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
        entry = _entry(trigger, firing, Phase.SUCCEEDED, event_id)
        opening = await self.open(connection, event, entry, rule=trigger.rule)
        return _Opened(accepted=Accepted(event_id=event_id, is_duplicate=False), opening=opening)

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
            await close_event(
                self._database,
                manifest.event_id,
                outcomes={},
                closed_by="dispatch",
                reason=reason,
                start=self.start_soon,
            )
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
        written = json.dumps(dict(value), allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
        is_deep = nests_deeper(json.loads(written), MAX_DEPTH + 1)  # of each value in it
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInputError(f"The event's {what} cannot be written as JSON: {error}.") from None
    if is_deep:
        raise InvalidInputError(f"The event's {what} holds a value that is nested deeper than {MAX_DEPTH} levels.")
    return written


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    """Metadata is kept as ``jsonb``, so that it can be queried; that type cannot hold every text."""
    text = _as_json(metadata, "metadata")
    value = json.loads(text)
    if readable_json(value) != value:
        raise InvalidInputError("The event's metadata holds a NUL character (U+0000). Remove it.")


def _check_key(key: str | None) -> None:
    if key is not None and readable(key) != key:
        raise InvalidInputError("The event's dedupe key holds a NUL or half a surrogate pair. Use plain text.")

"""Re-running a closed event, and test-running an action: each opens a new event in one transaction."""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any
from uuid import UUID

from latchflow import plan, repeats
from latchflow.crypto import Keyring
from latchflow.errors import ConflictError, NotAllowedError, NotFoundError, TooLargeError
from latchflow.gate import Rule
from latchflow.model import AuditKind, EventStatus, Manifest, Phase, PipelineInForce
from latchflow.names import TEST_RUN_ID, TEST_RUN_NAME, event_id_of_key
from latchflow.repeats import Repeat, Rerun
from latchflow.store import audit, firings, invocations, pause, places, reruns
from latchflow.store.database import Connection, Database
from latchflow.store.firings import FiringTrigger, NewEvent
from latchflow.store.reruns import PastEvent
from latchflow.store.visibility import Limits
from latchflow.temporal.dispatch import MAX_CONTEXT_BYTES, Accepted, Dispatcher, Opening


class Rerunner:
    """Opens events that repeat another, or try an action out.

    Args:
        database: Where events are, and everything that a re-run needs: it asks Temporal nothing.
        keyring: Opens what is kept, and seals it anew.
        dispatcher: Opens and starts the new event.
        dedicated: Names of the plugins that have workers of their own (``LATCHFLOW_DEDICATED_PLUGINS``).
    """

    def __init__(
        self, database: Database, keyring: Keyring, dispatcher: Dispatcher, *, dedicated: Collection[str] = ()
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._dispatcher = dispatcher
        self._dedicated = dedicated

    async def rerun(
        self, event_id: UUID, rerun: Rerun, *, actor: str, key: str | None = None, limits: Limits | None = None
    ) -> Accepted:
        """Open an event that repeats another.

        Args:
            event_id: The event to repeat.
            rerun: What of it.
            actor: Who asks; the invoker of the new event.
            key: With the same one, another call gives the same new event.
            limits: Those of who asks: the new event may owe nothing outside them; None: it may owe anything.

        Raises:
            NotFoundError: There is no such event.
            NotAllowedError: The new event would owe a pipeline outside the limits.
            ConflictError: It is open, nothing of it failed, a step to keep is no longer there, or the key came before
                with another wish.
            InvalidInputError: It has no such step to begin with, or several.
            UnavailableError: The database is away; nothing was created.
        """
        async with self._database.transaction() as connection:
            accepted, opening = await self.rerun_within(
                connection, event_id, rerun, actor=actor, key=key, limits=limits
            )
        if opening is not None:
            self._dispatcher.begin(opening)
        return accepted

    async def rerun_within(
        self,
        connection: Connection,
        event_id: UUID,
        rerun: Rerun,
        *,
        actor: str,
        key: str | None,
        limits: Limits | None,
        bulk_id: UUID | None = None,
    ) -> tuple[Accepted, Opening | None]:
        """As `rerun`, inside a transaction.

        Returns:
            The new event, and what to begin when the transaction is committed.
        """
        past = await reruns.past_event(connection, event_id)
        if past is None:
            raise NotFoundError(f"There is no event {event_id}.")
        trigger = await firings.lock_trigger(connection, past.manifest.trigger_id)
        new_id, now = await firings.fresh_id(connection)
        wanted = asdict(rerun)
        if key is not None:
            # The keys of an event's re-runs live beside those of triggers, under the id of the event.
            new_id = event_id_of_key(event_id, key)
            key_hash, body_hash = (hashlib.sha256(text.encode()).digest() for text in (key, _canonical(wanted)))
            known = await firings.claim_key(connection, event_id, key_hash, new_id, body_hash)
            if known is not None:
                if known.body_hash != body_hash:
                    raise ConflictError("This Idempotency-Key came before with another wish. Use a new key.")
                return Accepted(event_id=known.event_id, is_duplicate=True), None
        if not past.is_closed:
            raise ConflictError(f"The event is still open: {past.status}. Cancel it first, or wait for its end.")
        if rerun.start == "failed" and past.status in (EventStatus.SUCCEEDED, EventStatus.IGNORED):
            raise ConflictError(
                f"Nothing of the event failed: {past.status}. Re-run it from the start, or from a step."
            )
        repeat = await self._repeat(connection, past, trigger, rerun)
        _check_limits(limits, past.manifest.trigger_id, repeat.pipelines)
        name = trigger.name if trigger is not None and rerun.definitions == "now" else past.manifest.trigger_name
        manifest, kept = repeats.keep(
            self._manifest(new_id, past.manifest.trigger_id, name, repeat.pipelines), repeat.kept
        )
        context = self._keyring.open(past.context_sealed, places.event_context(event_id))
        detail: dict[str, Any] = {
            "operation": "rerun",
            "rerunOf": str(event_id),
            "kept": len(kept),
            **_readable(wanted),
        }
        if bulk_id is not None:
            detail["bulkId"] = str(bulk_id)
        event = NewEvent(
            manifest=manifest,
            pipelines=repeat.pipelines,
            fired_at=now,
            scheduled_for=past.scheduled_for,
            metadata=dict(past.metadata),
            invoker=actor,
            context_sealed=self._keyring.seal(context, places.event_context(new_id)),
            rerun_of=event_id,
        )
        rule = trigger.rule if trigger is not None else await _rule_without_trigger(connection)
        opening = await self._dispatcher.open(connection, event, _entry(event, trigger, detail), rule=rule)
        await reruns.keep_outputs(connection, self._keyring, kept)
        if manifest.trigger_id == TEST_RUN_ID:
            await self._keep_payload(connection, manifest, context)
        return Accepted(event_id=new_id, is_duplicate=False), opening

    async def try_out(self, action_id: UUID, payload: Mapping[str, Any], *, actor: str) -> Accepted:
        """Run an action once with a payload, as an event of its own that no trigger fired.

        Raises:
            NotFoundError: There is no such action.
            TooLargeError: The payload is over 512 KiB.
            UnavailableError: The database is away; nothing was created.
        """
        context = json.dumps(dict(payload), allow_nan=False, separators=(",", ":"), ensure_ascii=False).encode()
        if len(context) > MAX_CONTEXT_BYTES:
            raise TooLargeError(f"The payload has {len(context)} bytes; at most {MAX_CONTEXT_BYTES} are accepted.")
        async with self._database.transaction() as connection:
            pipeline = await firings.tried_out(connection, action_id)
            if pipeline is None:
                raise NotFoundError(f"There is no action {action_id}.")
            new_id, now = await firings.fresh_id(connection)
            manifest = self._manifest(new_id, TEST_RUN_ID, TEST_RUN_NAME, [pipeline])
            event = NewEvent(
                manifest=manifest,
                pipelines=[pipeline],
                fired_at=now,
                scheduled_for=None,
                metadata={"testRun": True},
                invoker=actor,
                context_sealed=self._keyring.seal(context, places.event_context(new_id)),
            )
            entry = _entry(event, None, {"operation": "test-run"})
            rule = await _rule_without_trigger(connection)
            opening = await self._dispatcher.open(connection, event, entry, rule=rule)
            await self._keep_payload(connection, manifest, context)
        self._dispatcher.begin(opening)
        return Accepted(event_id=new_id, is_duplicate=False)

    def _manifest(
        self, event_id: UUID, trigger_id: UUID, name: str, pipelines: Collection[PipelineInForce]
    ) -> Manifest:
        return plan.manifest(event_id, trigger_id, name, list(pipelines), self._dedicated)

    async def _repeat(
        self, connection: Connection, past: PastEvent, trigger: FiringTrigger | None, rerun: Rerun
    ) -> Repeat:
        if rerun.definitions == "then":
            return repeats.repeat_then(past.manifest, past.sources, past.succeeded, rerun)
        if past.manifest.trigger_id == TEST_RUN_ID:
            action_id = past.manifest.runs[0].steps[0].action_id
            found = await firings.tried_out(connection, action_id) if action_id is not None else None
            pipelines = [found] if found is not None else []
        else:
            pipelines = await firings.pipelines_in_force(connection, past.manifest.trigger_id)
        is_there = bool(pipelines) if past.manifest.trigger_id == TEST_RUN_ID else trigger is not None
        if not is_there:
            noun = "action" if past.manifest.trigger_id == TEST_RUN_ID else "trigger"
            raise ConflictError(f'The {noun} of this event was deleted. Re-run the event with "definitions": "then".')
        return repeats.repeat_now(past.manifest, pipelines, past.succeeded, rerun)

    async def _keep_payload(self, connection: Connection, manifest: Manifest, context: bytes) -> None:
        """Give a test run its payload as the evaluated input of its one step."""
        for run in manifest.runs:
            for step in run.steps:
                sealed = self._keyring.seal(context, places.invocation_input(step.invocation_id))
                await invocations.keep_input(connection, step.invocation_id, sealed)


async def _rule_without_trigger(connection: Connection) -> Rule:
    """Only the pause of everything holds for it."""
    return Rule(is_paused=(await pause.read(connection)).is_paused)


def _check_limits(limits: Limits | None, trigger_id: UUID, pipelines: Collection[PipelineInForce]) -> None:
    """What is in force now may be more than the event had."""
    if limits is not None and not all(limits.include(trigger_id, pipeline.id) for pipeline in pipelines):
        raise NotAllowedError(
            "The new event would have runs of pipelines that this user may not operate on. "
            'Re-run it with "definitions": "then".'
        )


def _entry(event: NewEvent, trigger: FiringTrigger | None, detail: Mapping[str, Any]) -> audit.AuditEntry:
    """Says that the event was opened; without a trigger, for which action."""
    step = None
    if event.manifest.trigger_id == TEST_RUN_ID and event.manifest.runs:
        step = event.manifest.runs[0].steps[0]
    return audit.AuditEntry(
        kind=AuditKind.TRIGGER,
        phase=Phase.SUCCEEDED,
        plugin_name=trigger.plugin if trigger else step.plugin if step else None,
        capability_key=trigger.capability_key if trigger else step.capability_key if step else None,
        trigger_definition_id=None if step else event.manifest.trigger_id,
        trigger_event_id=event.manifest.event_id,
        action_definition_id=step.action_id if step else None,
        actor=event.invoker,
        detail=detail,
    )


def _readable(wanted: Mapping[str, Any]) -> dict[str, Any]:
    start = wanted["start"]
    return {"from": start if isinstance(start, str) else start["step"], "definitions": wanted["definitions"]}


def _canonical(wanted: Mapping[str, Any]) -> str:
    return json.dumps(wanted, sort_keys=True, default=str)

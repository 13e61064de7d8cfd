"""What one attempt's service calls leave in Postgres."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, cast
from uuid import uuid4

from activities.recording import Recorder
from latchflow.crypto import Keyring
from latchflow.model import AuditKind
from latchflow.runtime.guard import EffectState, Intent, Prior, ServiceCall
from latchflow.sdk import ServiceError
from latchflow.store import audit, effects, places
from latchflow.store.attempts import Task
from latchflow.store.effects import EffectKey


class ServiceRecords:
    """Implements `latchflow.runtime.guard.Records` for one attempt."""

    def __init__(self, recorder: Recorder, keyring: Keyring, row: Task, *, number: int, code_hash: str) -> None:
        self._recorder = recorder
        self._keyring = keyring
        self._row = row
        self._number = number
        self._code_hash = code_hash

    async def call(self, call: ServiceCall) -> None:
        """Audit a call without effect."""
        row = self._row
        entry = audit.AuditEntry(
            kind=AuditKind.SERVICE,
            plugin_name=row.plugin,
            capability_key=row.capability_key,
            trigger_definition_id=row.trigger_id,
            trigger_event_id=row.event_id,
            action_definition_id=row.action_id,
            invocation_id=row.invocation_id,
            attempt=self._number,
            actor=call.actor_id,
            detail={**_detail(call), "outcome": call.outcome},
        )
        await self._recorder.write(lambda connection: audit.record(connection, entry))

    async def begin(self, intent: Intent, call: ServiceCall) -> Prior:
        """Write an effect down before it happens."""
        writer = uuid4()
        found = await self._recorder.write(
            lambda connection: effects.begin(
                connection,
                self._row,
                self._key(intent),
                writer=writer,
                target=bytes.fromhex(intent.target),
                content=bytes.fromhex(intent.content),
                code_hash=self._code_hash,
                actor=call.actor_id,
                detail=_detail(call),
            )
        )
        if found is None:
            raise _over()
        result = None
        if found.result_sealed is not None:
            result = self._keyring.open(found.result_sealed, self._place(intent))
        state = cast("EffectState", found.state or "new")
        return Prior(
            state=state,
            target=found.target.hex(),
            content=found.content.hex() if found.content is not None else None,
            via=found.via,
            live_until=found.live_until,
            result=result,
        )

    async def via(self, intent: Intent, provider: str, *, live_until: datetime) -> None:
        """Write down where it goes."""
        is_held = await self._recorder.write(
            lambda connection: effects.hand_over(
                connection, self._row, self._key(intent), provider, live_until=live_until
            )
        )
        if not is_held:
            raise _over()

    async def finish(self, intent: Intent, call: ServiceCall, state: EffectState, result: bytes | None) -> None:
        """Write down what became of it."""
        sealed = self._keyring.seal(result, self._place(intent)) if result is not None else None
        await self._recorder.write(
            lambda connection: effects.finish(
                connection,
                self._row,
                self._key(intent),
                state=state,
                result_sealed=sealed,
                actor=call.actor_id,
                detail={**_detail(call), "outcome": call.outcome},
            )
        )

    def _key(self, intent: Intent) -> EffectKey:
        return EffectKey(service=intent.service, ordinal=intent.ordinal, attempt=self._number)

    def _place(self, intent: Intent) -> str:
        return places.effect_result(self._row.invocation_id, intent.service, intent.ordinal)


def _over() -> ServiceError:
    return ServiceError("denied", "The attempt is over: its time was up, or another one has begun.")


def _detail(call: ServiceCall) -> Mapping[str, Any]:
    return {
        "service": call.service,
        "requestedScopes": list(call.requested_scopes),
        "grantedScopes": list(call.granted_scopes),
        **call.detail,
    }

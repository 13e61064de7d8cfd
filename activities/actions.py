"""Carrying out one invocation: its attempt is claimed before plugin code runs and ended at most once."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import stamina
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import endings, scope
from activities.heartbeat import Beat, beating
from latchflow import expressions, plan
from latchflow.crypto import Keyring
from latchflow.errors import LatchflowError, UnavailableError
from latchflow.masking import readable
from latchflow.model import ActionTask, AuditKind, InvocationStatus, Outcome, Phase
from latchflow.names import EXECUTE_ACTION, NOT_HERE
from latchflow.runtime.guard import Backends, Grant, GuardedServices, ServiceCall
from latchflow.runtime.invoker import Call, Failure, Success, invoke
from latchflow.runtime.registry import LoadedAction, Registry
from latchflow.sdk import Invocation
from latchflow.store import attempts, audit, places, silence
from latchflow.store.attempts import AttemptKey, Claimed, Ending, Runner, Task
from latchflow.store.database import Database

_RECORDING_LIMIT = timedelta(seconds=100)
"""How long an ending that could not be written is tried again: Temporal's two minutes are the net below."""


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One claimed attempt."""

    task: ActionTask
    row: Task
    key: AttemptKey
    claimed: Claimed
    action: LoadedAction
    beat: Beat


class ActionActivities:
    """The activity that runs plugin code."""

    def __init__(
        self, *, database: Database, keyring: Keyring, registry: Registry, backends: Backends, worker: str
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._registry = registry
        self._backends = backends
        self._worker = worker

    @activity.defn(name=EXECUTE_ACTION)
    async def execute_action(self, task: ActionTask) -> Outcome:
        """Make one attempt at an invocation.

        Retries are Temporal's, without a maximum; core ends the series. What makes the effect happen once: the claim
        in `attempts` (one attempt at a time, and a recorded success is answered instead of repeated) and the
        idempotency key, which is the invocation's id. Heartbeats every two seconds.

        Returns:
            How the invocation ended, when it succeeded or was skipped.

        Raises:
            ApplicationError: Every other ending; its first detail is the invocation's status once that is final.
        """
        action = self._registry.actions.get((task.step.plugin, task.step.capability_key))
        if action is None:
            message = f"This worker has no action {task.step.capability_key!r} of {task.step.plugin}; another may."
            raise ApplicationError(message, type=NOT_HERE)
        async with beating() as beat:
            row = await self._load(task)
            if row.ended_at is not None:
                return endings.settled(row, self._keyring)
            variables, fault = await self._variables(task, row, action)
            if fault is None and task.step.when is not None:
                # In a thread: nobody can bound how long an expression takes, and this loop polls Temporal.
                is_wanted, fault = await asyncio.to_thread(_is_wanted, task.step.when, variables)
                if not is_wanted and fault is None:
                    return await self._skip(task, row)
            attempt = await self._claim(task, row, action, beat)
            if attempt is None:
                return endings.settled(await self._load(task), self._keyring)
            return await self._carry_out(attempt, variables, fault)

    async def _load(self, task: ActionTask) -> Task:
        async with self._database.connection() as connection:
            row = await attempts.load(connection, task.step.invocation_id)
        if row is None:
            message = f"There is no invocation {task.step.invocation_id} in the database."
            raise ApplicationError(message, type="UnknownInvocation", non_retryable=True)
        return row

    async def _variables(
        self, task: ActionTask, row: Task, action: LoadedAction
    ) -> tuple[dict[str, Any], Failure | None]:
        """The variables of the step's expressions; nothing is read for a step that has none."""
        if task.step.when is None and task.step.input is None and not action.template_names:
            return {}, None
        try:
            async with self._database.connection() as connection:
                return await scope.variables_of(connection, self._keyring, task, row), None
        except UnavailableError:
            raise
        except LatchflowError as error:
            return {}, _fault(error)

    async def _skip(self, task: ActionTask, row: Task) -> Outcome:
        reason = f"when is false: {task.step.when}"
        async with self._database.connection() as connection:
            await attempts.skip(connection, row, reason)
        return Outcome(invocation_id=row.invocation_id, status=InvocationStatus.SKIPPED, reason=reason)

    async def _claim(self, task: ActionTask, row: Task, action: LoadedAction, beat: Beat) -> _Attempt | None:
        info = activity.info()
        key = AttemptKey(
            workflow_run_id=info.workflow_run_id or "",
            activity_id=info.activity_id,
            temporal_attempt=info.attempt,
        )
        runner = Runner(worker=self._worker, plugin_version=action.plugin.version, code_hash=action.plugin.code_hash)
        async with self._database.transaction() as connection:
            claimed = await attempts.claim(connection, row, key, runner)
        if claimed is None:
            return None
        return _Attempt(task=task, row=row, key=key, claimed=claimed, action=action, beat=beat)

    async def _carry_out(self, attempt: _Attempt, variables: Mapping[str, Any], fault: Failure | None) -> Outcome:
        if attempt.claimed.lost_before >= plan.MAX_LOST_ATTEMPTS:
            message = f"{attempt.claimed.lost_before} attempts lost their worker; this action may be what ends it."
            fault = Failure(error_type="WorkerLost", message=message, is_retryable=False)
        try:
            result = fault or await self._invoke(attempt, variables)
        except asyncio.CancelledError:
            await self._end_cancelled(attempt)
            raise
        return await self._report(attempt, result)

    async def _invoke(self, attempt: _Attempt, variables: Mapping[str, Any]) -> Success | Failure:
        step, row = attempt.task.step, attempt.row
        try:
            config = self._keyring.open_json(row.config_sealed, places.action_config(row.action_id, row.plugin))
            for name in attempt.action.template_names & config.keys():
                config[name] = await asyncio.to_thread(expressions.evaluate_template, config[name], variables)
            payload = await self._payload(attempt, variables)
        except UnavailableError:
            raise
        except LatchflowError as error:
            return _fault(error)
        key = str(row.invocation_id)
        call = Call(
            config=config,
            payload=payload,
            is_payload_from_input=step.input is not None,
            invocation=Invocation(
                id=row.invocation_id,
                attempt=attempt.claimed.number,
                event_id=row.event_id,
                trigger_id=row.trigger_id,
                pipeline_id=attempt.task.pipeline_id,
                step_name=step.name,
                invoker=row.invoker,
            ),
            services=GuardedServices(self._backends, self._grant(attempt, key)),
            idempotency_key=key,
            timeout_seconds=step.timeout_seconds,
            heartbeat=attempt.beat.report,
        )
        return await invoke(attempt.action, call)

    async def _payload(self, attempt: _Attempt, variables: Mapping[str, Any]) -> Mapping[str, Any]:
        row, step = attempt.row, attempt.task.step
        if step.input is None:
            context = scope.context_of(self._keyring, row)
            return context if isinstance(context, dict) else {"value": context}
        place = places.invocation_input(row.invocation_id)
        if row.input_sealed is not None:
            kept: dict[str, Any] = self._keyring.open_json(row.input_sealed, place)
            return kept
        payload: dict[str, Any] = await asyncio.to_thread(expressions.evaluate_template, step.input, variables)
        async with self._database.connection() as connection:
            await attempts.keep_input(connection, row.invocation_id, self._keyring.seal_json(payload, place))
        return payload

    def _grant(self, attempt: _Attempt, idempotency_key: str) -> Grant:
        async def record(call: ServiceCall) -> None:
            entry = audit.AuditEntry(
                kind=AuditKind.SERVICE,
                plugin_name=attempt.row.plugin,
                capability_key=attempt.row.capability_key,
                trigger_definition_id=attempt.row.trigger_id,
                trigger_event_id=attempt.row.event_id,
                action_definition_id=attempt.row.action_id,
                invocation_id=attempt.row.invocation_id,
                attempt=attempt.claimed.number,
                actor=call.actor_id,
                detail={
                    "service": call.service,
                    "requestedScopes": list(call.requested_scopes),
                    "grantedScopes": list(call.granted_scopes),
                    "outcome": call.outcome,
                    **call.detail,
                },
            )
            async for trial in _until_recorded():
                with trial:
                    async with self._database.connection() as connection:
                        await audit.record(connection, entry)

        return Grant(
            granted_scopes=attempt.action.plugin.granted_scopes,
            capability_scopes=frozenset(attempt.action.capability.scopes),
            idempotency_key=idempotency_key,
            record=record,
            host_loop=asyncio.get_running_loop(),
        )

    async def _report(self, attempt: _Attempt, result: Success | Failure) -> Outcome:
        progress = attempt.beat.progress
        if isinstance(result, Success):
            ending = endings.ending_of_success(result, attempt.row, self._keyring, progress)
        else:
            ending = endings.ending_of_failure(
                result,
                attempt.task.step,
                attempt.claimed,
                temporal_attempt=attempt.key.temporal_attempt,
                progress=progress,
            )
        if not await self._record(attempt, ending):
            return endings.settled(await self._load(attempt.task), self._keyring)
        if isinstance(result, Failure):
            endings.fail(result, ending)
        return endings.outcome_of_success(attempt.row, result.output, result.output_json)

    async def _end_cancelled(self, attempt: _Attempt) -> None:
        """Record why the attempt was interrupted; the cancellation itself goes on to Temporal."""
        details = activity.cancellation_details()
        if details is not None and details.cancel_requested:
            ending = Ending(
                phase=Phase.CANCELLED,
                status=InvocationStatus.CANCELLED,
                error={"type": "Cancelled", "message": "The event was cancelled."},
            )
        elif activity.is_worker_shutdown():
            ending = Ending(
                phase=Phase.RETRYING,
                status=InvocationStatus.RETRYING,
                is_lost=True,
                error={"type": "WorkerShutdown", "message": "The worker stopped before the action had finished."},
            )
        else:
            # Temporal gave the attempt up. Its successor ends it; when the workflow is gone too, the closer does.
            async with self._database.connection() as connection:
                await silence.look_now(connection, attempt.row.event_id)
            return
        await self._record(attempt, ending)

    async def _record(self, attempt: _Attempt, ending: Ending) -> bool:
        """Write an ending before Temporal hears of it; False when the attempt had one already."""
        async for trial in _until_recorded():
            with trial:
                async with self._database.connection() as connection:
                    return await attempts.end(
                        connection, attempt.row, attempt.key, ending, number=attempt.claimed.number
                    )
        raise AssertionError("the retry context raises when it gives up")  # pragma: no cover


def _until_recorded() -> AsyncIterator[stamina.Attempt]:
    """Try again while Postgres is away: what has happened must be on record before anyone hears of it."""
    return aiter(
        stamina.retry_context(
            on=UnavailableError, attempts=None, timeout=_RECORDING_LIMIT, wait_initial=0.1, wait_max=2.0
        )
    )


def _is_wanted(when: str, variables: Mapping[str, Any]) -> tuple[bool, Failure | None]:
    try:
        return scope.is_wanted(when, variables), None
    except LatchflowError as error:
        return False, _fault(error)


def _fault(error: LatchflowError) -> Failure:
    # The message may quote data of the event, which may hold anything.
    return Failure(error_type=error.code, message=readable(error.message), is_retryable=False)

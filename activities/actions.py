"""Carrying out one invocation: its attempt is claimed before plugin code runs and ended at most once."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any

import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities import endings
from activities.heartbeat import Beat, beating
from activities.recording import Recorder
from activities.resumption import is_given_up, resumption_of
from activities.scope import Evaluator, Scope
from activities.service_records import ServiceRecords
from latchflow import plan
from latchflow.crypto import Keyring
from latchflow.errors import LatchflowError, UnavailableError
from latchflow.masking import readable
from latchflow.model import ActionTask, InvocationStatus, Outcome, Phase
from latchflow.names import EXECUTE_ACTION, NOT_HERE, PLUGIN_DISABLED, SUPERSEDED
from latchflow.runtime.guard import Backends, Grant, GuardedServices, guarded_callback_url
from latchflow.runtime.invoking.configs import ConfigError
from latchflow.runtime.invoking.invoker import (
    CLEAN_UP_SECONDS,
    Call,
    Failure,
    Result,
    Success,
    Waiting,
    invoke,
)
from latchflow.runtime.lifecycle.live import LiveRegistry
from latchflow.runtime.lifecycle.migrating import is_saved_by_newer
from latchflow.runtime.lifecycle.registry import LoadedAction
from latchflow.sdk import Invocation
from latchflow.store import attempts, callbacks, invocations, plugin_catalog, silence
from latchflow.store.attempts import AttemptKey, Claimed, Ending, Runner, Task
from latchflow.store.database import Database
from latchflow.temporal import policies

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One claimed attempt.

    Attributes:
        calls_made: By service, the calls with an effect, those before an earlier wait included.
    """

    task: ActionTask
    row: Task
    key: AttemptKey
    claimed: Claimed
    action: LoadedAction
    beat: Beat
    started: float = field(default_factory=time.monotonic)
    calls_made: Counter[str] = field(default_factory=Counter)


class ActionActivities:
    """The activity that runs plugin code."""

    def __init__(
        self,
        *,
        database: Database,
        keyring: Keyring,
        live: LiveRegistry,
        backends: Backends,
        evaluator: Evaluator,
        worker: str,
        switched_off: Mapping[tuple[str, str], str] = MappingProxyType({}),
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._live = live
        self._backends = backends
        self._worker = worker
        self._switched_off = switched_off
        self._scope = Scope(database, keyring, evaluator)
        self._recorder = Recorder(database)
        self._running: set[asyncio.Task[Any] | None] = set()

    def interrupt(self) -> None:
        """Cancel the attempts in progress: the worker stops, and their time is up. Another worker makes them again."""
        for task in self._running:
            if task is not None:
                task.cancel()

    async def close(self) -> None:
        """Let records in progress be written."""
        await self._recorder.close(within=policies.RECORDING_GRACE)

    @activity.defn(name=EXECUTE_ACTION)
    async def execute_action(self, task: ActionTask) -> Outcome:
        """Make one attempt at an invocation.

        Retries are Temporal's, without a maximum; core ends the series. What makes the effect happen once: the claim
        in `attempts` (one attempt at a time, and a recorded success is answered instead of repeated) and the
        idempotency key, which is the invocation's id. Heartbeats every two seconds.

        Returns:
            How the invocation ended, when it succeeded or was skipped, or that it waits.

        Raises:
            ApplicationError: Every other ending; its first detail is the invocation's status once that is final.
        """
        running = asyncio.current_task()
        self._running.add(running)
        try:
            return await self._execute(task)
        finally:
            self._running.discard(running)

    async def _execute(self, task: ActionTask) -> Outcome:
        row = await self._load(task)
        if row.ended_at is not None:
            return endings.settled(row, self._keyring)
        if (still_waiting := endings.still_waiting(row)) is not None:
            return still_waiting
        action = self._live.snapshot.actions.get((task.step.plugin, task.step.capability_key))
        if action is None:
            return await self._not_here(task)
        with action.plugin.uses:
            if is_saved_by_newer(row.config_version, action.plugin.version) and not await self._is_in_force(action):
                return await self._not_here(task)  # a worker with the newer version is there, or comes
            return await self._attempt(task, row, action)

    async def _is_in_force(self, action: LoadedAction) -> bool:
        async with self._database.connection() as connection:
            plugin = await plugin_catalog.get(connection, action.plugin.name)
        return plugin is not None and plugin.code_hash == action.plugin.code_hash

    async def _attempt(self, task: ActionTask, row: Task, action: LoadedAction) -> Outcome:
        async with beating() as beat:
            variables, fault = await self._variables(task, row, action)
            if reason := self._switched_off.get((task.step.plugin, task.step.capability_key)):
                fault = Failure(error_type="SwitchedOff", message=reason, is_retryable=False)
            # Asked once: what ran before may not be skipped because a sibling has ended since.
            if fault is None and row.when is not None and row.attempt_number == 0:
                is_wanted, fault = await self._is_wanted(row.when, variables)
                if not is_wanted and fault is None:
                    return await self._skip(row, f"when is false: {row.when}")
            attempt = await self._claim(task, row, action, beat)
            if attempt is None:
                return endings.settled(await self._load(task), self._keyring)
            return await self._carry_out(attempt, variables, fault)

    async def _not_here(self, task: ActionTask) -> Outcome:
        """Turn down what this process cannot run.

        When an admin disabled the plugin, for good; else until a worker comes that has the capability, which uses up
        no attempt. Returns, or raises, what has ended the invocation meanwhile, if anything has.
        """
        step, has_ended = task.step, False
        async with self._database.transaction() as connection:
            plugin = await plugin_catalog.get(connection, step.plugin)
            if plugin is not None and plugin.status == "DISABLED":
                reason = f"An admin disabled the plugin {step.plugin}."
                has_ended = not await invocations.end_disabled(connection, step.invocation_id, reason)
                status = InvocationStatus.FAILED_PERMANENT.value
                error = ApplicationError(reason, status, type=PLUGIN_DISABLED, non_retryable=True)
            else:
                await invocations.mark_unrouted(connection, step.invocation_id)
                reason = f"No action {step.capability_key!r} of {step.plugin} here."
                error = ApplicationError(reason, type=NOT_HERE, next_retry_delay=policies.ELSEWHERE_DELAY)
        if has_ended:
            return endings.settled(await self._load(task), self._keyring)
        raise error

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
        if row.when is None and row.input_template is None and not action.template_names:
            return {}, None
        # The expressions of a config are not read yet: any step may be meant.
        sources = "steps" if action.template_names else [row.when, row.input_template]
        try:
            return await self._scope.variables(task, row, sources), None
        except UnavailableError:
            raise
        except LatchflowError as error:
            return {}, _fault(error)

    async def _is_wanted(self, when: str, variables: Mapping[str, Any]) -> tuple[bool, Failure | None]:
        try:
            return await self._scope.is_wanted(when, variables), None
        except UnavailableError:
            raise
        except LatchflowError as error:
            return False, _fault(error)

    async def _skip(self, row: Task, reason: str) -> Outcome:
        async with self._database.connection() as connection:
            is_skipped = await invocations.skip(connection, row, reason)
        if not is_skipped:
            raise ApplicationError("A later attempt of this invocation has begun.", type=SUPERSEDED)
        return Outcome(invocation_id=row.invocation_id, status=InvocationStatus.SKIPPED, reason=reason)

    async def _claim(self, task: ActionTask, row: Task, action: LoadedAction, beat: Beat) -> _Attempt | None:
        info = activity.info()
        key = AttemptKey(
            workflow_run_id=info.workflow_run_id or "",
            activity_id=info.activity_id,
            temporal_attempt=info.attempt,
            turn=task.turn,
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
            fault = Failure(error_type="WorkerLost", message=message, is_retryable=True)
            # The series is over, however few of its attempts count.
            used_up = replace(attempt.claimed, counted_before=attempt.task.step.retry_policy.max_attempts)
            attempt = replace(attempt, claimed=used_up)
        if fault is None and is_given_up(attempt.claimed):
            ending = endings.ending_of_deadline(attempt.claimed.pending_deadline)
            return await self._settle(attempt, ending, endings.give_up)
        try:
            result = fault or await self._invoke(attempt, variables)
        except asyncio.CancelledError:
            await self._end_cancelled(attempt)
            raise
        except UnavailableError:
            raise  # Postgres went away before plugin code ran: the next attempt ends this one as lost.
        except LatchflowError as error:
            result = _fault(error)
        except Exception as error:
            # A fault of core's own counts like any other, or the action would run again and again.
            log.exception("an attempt could not be carried out", invocation_id=str(attempt.row.invocation_id))
            result = Failure(error_type="Internal", message=type(error).__name__, is_retryable=True)
        return await self._report(attempt, result)

    async def _invoke(self, attempt: _Attempt, variables: Mapping[str, Any]) -> Result:
        row, number = attempt.row, attempt.claimed.number
        resumption = resumption_of(attempt.claimed, row, self._keyring, attempt.calls_made)
        try:
            config = await self._scope.config(row, attempt.action, variables)
        except ConfigError as error:
            return Failure(error_type="InvalidConfig", message=str(error), is_retryable=False)
        payload = await self._scope.payload(row, variables)
        key = str(row.invocation_id)
        grant = Grant(
            granted_scopes=attempt.action.plugin.granted_scopes,
            capability_scopes=frozenset(attempt.action.capability.scopes),
            idempotency_key=key,
            records=ServiceRecords(
                self._recorder, self._keyring, row, number=number, code_hash=attempt.action.plugin.code_hash
            ),
            host_loop=asyncio.get_running_loop(),
            deadline=datetime.now(UTC) + timedelta(seconds=attempt.task.step.timeout_seconds),
            clean_up=timedelta(seconds=CLEAN_UP_SECONDS),
            resends_unknown=row.on_unknown == "resend",
            calls_made=attempt.calls_made,
        )
        call = Call(
            config=config,
            payload=payload,
            is_payload_from_input=row.input_template is not None,
            invocation=Invocation(
                id=row.invocation_id,
                attempt=number,
                event_id=row.event_id,
                trigger_id=row.trigger_id,
                pipeline_id=attempt.task.pipeline_id,
                step_name=attempt.task.step.name,
                invoker=row.invoker,
            ),
            services=GuardedServices(self._backends, grant, actor=f"{row.plugin}/{row.capability_key}"),
            idempotency_key=key,
            timeout_seconds=attempt.task.step.timeout_seconds,
            deadline=grant.deadline,
            heartbeat=attempt.beat.report,
            callback_url=guarded_callback_url(
                self._backends.callbacks, grant, invocation_id=row.invocation_id, attempt=number
            ),
            resumption=resumption,
        )
        try:
            return endings.held_up(await invoke(attempt.action, call), grant.quiet_at)
        finally:
            grant.end()

    async def _report(self, attempt: _Attempt, result: Result) -> Outcome:
        try:
            ending, tell = self._ending(attempt, result)
        except Exception as error:
            # Without an ending the plugin would be called again and again.
            log.exception("an ending could not be made", invocation_id=str(attempt.row.invocation_id))
            fault = Failure(error_type="Internal", message=type(error).__name__, is_retryable=True)
            ending, tell = self._ending(attempt, fault)
        return await self._settle(attempt, ending, tell)

    def _ending(self, attempt: _Attempt, result: Result) -> tuple[Ending, Callable[[Ending], Outcome]]:
        """What is recorded of the result, and what Temporal is told afterwards."""
        row, step, claimed, progress = attempt.row, attempt.task.step, attempt.claimed, attempt.beat.progress
        if isinstance(result, Success):
            success = result
            done = endings.ending_of_success(success, row, self._keyring, progress)
            return done, lambda _: endings.outcome_of_success(row, success)
        if isinstance(result, Waiting):
            ending = endings.ending_of_waiting(
                result, row, self._keyring, calls_made=attempt.calls_made, progress=progress
            )
            if ending.status.is_terminal:
                return ending, endings.give_up
            return ending, lambda ending: endings.outcome_of_waiting(row, ending)
        failure, delay = result, endings.retry_delay(result, step, claimed)
        ending = endings.ending_of_failure(
            failure, step, claimed, delay=delay, temporal_attempt=attempt.key.temporal_attempt, progress=progress
        )
        return ending, lambda ending: endings.fail(failure, ending, delay)

    async def _settle(self, attempt: _Attempt, ending: Ending, tell: Callable[[Ending], Outcome]) -> Outcome:
        """Record the ending, then tell Temporal of it, or of the one that was recorded first."""
        if not await self._end(attempt, ending):
            return endings.settled(await self._load(attempt.task), self._keyring)
        if ending.phase is Phase.WAITING and await self._is_called_back(attempt.row):
            ending = replace(ending, next_attempt_at=datetime.now(UTC))
        return tell(ending)

    async def _is_called_back(self, row: Task) -> bool:
        """Whether what the action waits for has come already, before it said that it waits."""
        async with self._database.connection() as connection:
            return await callbacks.is_called_back(connection, row.invocation_id)

    async def _end(self, attempt: _Attempt, ending: Ending) -> bool:
        log.info(
            "attempt ended",
            event_id=str(attempt.row.event_id),
            invocation_id=str(attempt.row.invocation_id),
            step=attempt.task.step.name,
            attempt=attempt.claimed.number,
            phase=ending.phase.value,
            error=ending.error["type"] if ending.error else None,
        )
        is_ended = await self._recorder.end(attempt.row, attempt.key, ending, number=attempt.claimed.number)
        if is_ended:
            stats = attempt.action.plugin.stats.of("ACTION", attempt.action.key)
            stats.record(ending.phase.value, time.monotonic() - attempt.started, ending.error)
        return is_ended

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
        # Temporal waits for this; the record goes on by itself if it takes longer.
        with suppress(TimeoutError):
            async with asyncio.timeout(policies.RECORDING_GRACE.total_seconds()):
                await self._end(attempt, ending)


def _fault(error: LatchflowError) -> Failure:
    # The message may quote data of the event, which may hold anything.
    return Failure(error_type=type(error).__name__, message=readable(error.message), is_retryable=False)
